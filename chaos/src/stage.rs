//! Everything real: the disk, Kafka behind its proxies, Hookgate on a configuration, and the clients.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    arguments::Arguments,
    books::Books,
    broker::{Broker, Ports},
    class::ClassId,
    client::{Client, Counts, Disturbance, Phase},
    configuration::Configuration,
    disk::Disk,
    gate::Gate,
    proxy::Proxy,
    session::Identity,
    topics,
    trouble::Troubles,
};

/// Starts of Hookgate that may fail before the run is given up.
const FIRST_STARTS: u32 = 3;

/// What is broken and watched.
pub(crate) struct Stage {
    pub(crate) gate: Gate,
    pub(crate) configuration: Arc<Configuration>,
    pub(crate) brokers: Vec<Broker>,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) disk: Disk,
    /// Kafka without proxies between, for the judge.
    pub(crate) bootstrap: String,
}

impl Stage {
    /// Starts it all, and nothing is broken yet.
    ///
    /// # Errors
    /// What does not start.
    pub(crate) async fn set(arguments: &Arguments, nodes: usize, classes: &[ClassId], folder: &Path, troubles: &Troubles) -> Result<Self> {
        let start = Instant::now();
        let (brokers, proxies) = cluster(&arguments.kafka_libs, folder, nodes).await?;
        let join = |addresses: Vec<SocketAddr>| addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
        let bootstrap = join(brokers.iter().map(Broker::direct).collect());
        topics::create(&bootstrap, classes, nodes).await?;
        eprintln!("chaos: Apache Kafka, {nodes} broker(s): {:.1} s", start.elapsed().as_secs_f64());
        let disk = Disk::make(&folder.join("disk"))?;
        let servers = join(proxies.iter().map(Proxy::address).collect());
        let data = folder.join("disk/data");
        let configuration = Configuration::write(folder.join("hookgate.toml"), data, servers, classes, &arguments.guest)
            .with_context(|| format!("the configuration, or {}", arguments.guest.display()))?;
        let mut gate = Gate::new(&arguments.hookgate, &configuration.file, &folder.join("hookgate.log"), troubles.clone())?;
        let gate = tokio::task::spawn_blocking(move || {
            let mut failures = 0;
            let started = gate.start(|| {
                failures += 1;
                failures == FIRST_STARTS
            });
            started.map(|()| gate)
        });
        Ok(Stage { gate: gate.await??, configuration: Arc::new(configuration), brokers, proxies, disk, bootstrap })
    }
}

/// Brokers that answer, each behind a proxy of its own.
async fn cluster(libs: &Path, folder: &Path, nodes: usize) -> Result<(Vec<Broker>, Vec<Proxy>)> {
    let ports = Ports::free(nodes)?;
    let mut proxies = Vec::new();
    for ports in &ports {
        proxies.push(Proxy::start(([127, 0, 0, 1], ports.proxied).into()).await?);
    }
    let advertised: Vec<SocketAddr> = proxies.iter().map(Proxy::address).collect();
    let (libs, folder) = (libs.to_owned(), folder.to_owned());
    let brokers = tokio::task::spawn_blocking(move || {
        let prepare = |(index, advertised): (usize, &SocketAddr)| {
            let (libs, folder, ports, advertised) =
                (libs.clone(), folder.join(format!("broker-{}", index + 1)), ports.clone(), *advertised);
            thread::spawn(move || Broker::prepare(&libs, &folder, index, &ports, advertised))
        };
        let prepared: Vec<_> = advertised.iter().enumerate().map(prepare).collect();
        let prepared = prepared.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread ended"))?);
        let mut brokers = prepared.collect::<Result<Vec<Broker>>>()?;
        brokers.iter_mut().try_for_each(Broker::launch)?;
        brokers.iter_mut().try_for_each(Broker::await_up)?;
        anyhow::Ok(brokers)
    });
    Ok((brokers.await??, proxies))
}

/// All clients.
pub(crate) struct Fleet {
    pub(crate) counts: Arc<Counts>,
    /// One for each client.
    pub(crate) disturbances: Vec<mpsc::Sender<Disturbance>>,
    phase: watch::Sender<Phase>,
    clients: JoinSet<Books>,
}

impl Fleet {
    /// Lets them publish.
    pub(crate) fn start(arguments: &Arguments, seed: u64, classes: &[ClassId], gate: &watch::Receiver<Option<SocketAddr>>) -> Self {
        let (phase, phases) = watch::channel(Phase::Publish);
        let (counts, mut disturbances, mut clients) = (Arc::new(Counts::default()), Vec::new(), JoinSet::new());
        for number in 0..arguments.clients {
            let (sender, receiver) = mpsc::channel(1);
            disturbances.push(sender);
            let who = Identity { seed, client: number, window: arguments.window.into(), classes: classes.to_vec() };
            let client = Client {
                who,
                gate: gate.clone(),
                phase: phases.clone(),
                disturbances: receiver,
                counts: Arc::clone(&counts),
                rate: f64::from(arguments.rate) / f64::from(arguments.clients),
            };
            clients.spawn(client.run());
        }
        Fleet { counts, disturbances, phase, clients }
    }

    /// Nothing new; waits until everything is answered, at most `patience`. The books of all clients.
    pub(crate) async fn settle(mut self, patience: Duration) -> Vec<Books> {
        self.phase.send_replace(Phase::Settle);
        let mut books = Vec::new();
        let gather = async {
            while let Some(done) = self.clients.join_next().await {
                books.extend(done.ok());
            }
        };
        let _ = tokio::time::timeout(patience, gather).await; // who is not done by then says so in its books
        self.phase.send_replace(Phase::End);
        while let Some(done) = self.clients.join_next().await {
            books.extend(done.ok());
        }
        books.sort_by_key(|books| books.client);
        books
    }
}
