//! The way of a version: canary, promotion, rolling back, what is remembered over a restart.

use super::*;
use crate::{
    event::{Client, Message, PublishVerdict, QoS},
    guest::Asked,
};

/// A component of the same behaviour with another digest: a custom section more.
fn version(name: &str, number: u8) -> Vec<u8> {
    [component(name), vec![0, 3, 1, b'v', number]].concat()
}

/// The hostile guest, behaving as `mode` says: its file says so, not its settings.
pub(super) fn behaving(mode: &str, number: u8) -> Vec<u8> {
    const MARK: &[u8] = b"hookgate-hostile-mode=";
    let mut bytes = version("hostile", number);
    let at = bytes.windows(MARK.len()).position(|window| window == MARK).expect("its mark") + MARK.len();
    bytes[at..at + 26].copy_from_slice(format!("{mode:<26}").as_bytes());
    bytes
}

pub(super) fn client(id: &str) -> Arc<Client> {
    Arc::new(Client {
        client_id: id.into(),
        username: None,
        peer: "192.0.2.7:51234".parse().unwrap(),
        protocol_version: 5,
        certificate_name: None,
        connected_at_ms: 0,
    })
}

pub(super) fn message(payload: &str) -> Arc<Message> {
    Arc::new(Message {
        publisher: "c".into(),
        publisher_username: None,
        topic: "t".into(),
        payload: payload.to_owned().into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        received_at_ms: 0,
        properties: None,
        annotations: Vec::new(),
    })
}

/// Asks for `clients` clients once each; how many were answered by `digest`, and how many got no verdict.
pub(super) async fn ask(guests: &Guests, clients: usize, digest: &str, payload: &str) -> (usize, usize) {
    let serving = guests.get("guest").unwrap();
    let (mut by, mut failed) = (0, 0);
    for number in 0..clients {
        let asked = Asked::new(1, 1, "n");
        let answered = serving.publish(asked, &client(&format!("client-{number}")), &message(payload)).await;
        by += usize::from(answered.by.digest() == digest);
        failed += usize::from(answered.answer != Ok(PublishVerdict::Pass));
    }
    (by, failed)
}

/// A guest that passes, and traps when the payload says so; with tables of its own.
fn tables(more: &str) -> String {
    format!(
        "[[guest]]\nname = \"guest\"\npath = \"guest.wasm\"\ngrants = [\"settings\", \"log\", \"state\", \"crypto\", \"metrics\"]\n\
         settings = {{ mode = \"trap-sometimes\" }}\n{more}\n"
    )
}

impl Deployment {
    /// A registry on the same folder, as a process that starts anew has it.
    pub(super) fn restarted(&mut self, config: &Config) {
        self.metrics = Metrics::new();
        let (differences, _nobody) = mpsc::channel(1);
        self.registry = Registry::new(&config.runtime, &self.metrics, differences).unwrap();
    }

    fn durable(&self, more: &str) -> Config {
        self.config(&format!("node = {{ data_dir = \"data\" }}\n{}", tables(more)))
    }

    pub(super) fn put(&self, bytes: &[u8]) -> String {
        fs::write(self.path("guest.wasm"), bytes).unwrap();
        crate::guest::digest(bytes)
    }

    async fn settle(&self, guests: Guests) -> Guests {
        match self.registry.settle(&guests).await {
            Some(settled) => self.registry.commit(settled, &guests).await,
            None => guests,
        }
    }

    pub(super) async fn settled(&self, mut guests: Guests, digest: &str) -> Guests {
        let deadline = Instant::now() + Duration::from_secs(30);
        while guests.get("guest").unwrap().current().digest() != digest {
            assert!(Instant::now() < deadline, "it never takes over");
            tokio::time::sleep(Duration::from_millis(20)).await;
            guests = self.settle(guests).await;
        }
        guests
    }

    pub(super) fn rolled_back(&self, cause: &str) -> u64 {
        let label = ReasonLabel { name: "guest".to_owned(), reason: cause.to_owned() };
        self.metrics.guest_rollbacks.get_or_create(&label).get()
    }
}

pub(super) fn view(guests: &Guests) -> View {
    guests.views().remove(0)
}

#[tokio::test]
async fn a_canary_is_met_by_its_share_and_takes_over() {
    let deployment = Deployment::new();
    let config = deployment.config(&tables("canary = { share = 0.3, for = \"100ms\", min_calls = 50 }"));
    let old = deployment.put(&version("hostile", 0));
    let first = deployment.load(&config, &Guests::default()).await;
    let new = deployment.put(&version("hostile", 1));
    let (guests, problems) = deployment.refresh(&config, &first).await;
    assert_eq!((problems, deployment.swaps("guest")), (vec![], (0, 0)));
    let (met, failed) = ask(&guests, 200, &new, "x").await;
    assert!((30..=90).contains(&met) && failed == 0, "{met} of 200 for a share of 0.3");
    assert_eq!(ask(&guests, 200, &new, "x").await.0, met, "the same clients");
    assert_eq!(ask(&guests, 200, &old, "x").await.0, 200 - met);
    // A look that finds the same file leaves it alone.
    let (again, _) = deployment.refresh(&config, &guests).await;
    assert!(Arc::ptr_eq(again.get("guest").unwrap(), guests.get("guest").unwrap()));
    let guests = deployment.settled(again, &new).await;
    assert_eq!(ask(&guests, 20, &new, "x").await, (20, 0));
    let view = view(&guests);
    assert!(view.beside.is_none() && view.refused.is_none() && view.probation_ends.is_some());
    assert_eq!(deployment.swaps("guest"), (1, 0));
    assert_eq!(deployment.metrics.guest_promotions.get_or_create(&"guest".into()).get(), 1);
}

#[tokio::test]
async fn a_canary_that_fails_goes_back_at_once_and_stays_out_over_a_restart() {
    let mut deployment = Deployment::new();
    let config = deployment
        .durable("canary = { share = 0.5, for = \"1h\", min_calls = 5, max_failure_ratio = 0.2 }\nbreaker = { max_failure_ratio = 1.0 }");
    let old = deployment.put(&version("hostile", 0));
    deployment.restarted(&config);
    let first = deployment.load(&config, &Guests::default()).await;
    let new = deployment.put(&version("hostile", 1));
    let (guests, _) = deployment.refresh(&config, &first).await;
    let (met, _) = ask(&guests, 20, &new, "x").await;
    assert!(met >= 5, "{met}");
    let (met, failed) = ask(&guests, 200, &new, "trap").await;
    assert!(met < 20 && failed == 200, "{met}: the running version traps on this too, but the canary was asked no more");
    assert_eq!(ask(&guests, 50, &old, "x").await, (50, 0), "before anybody cleaned up");
    let guests = deployment.settle(guests).await;
    assert_eq!(view(&guests).refused.map(|refused| (refused.digest, refused.cause)), Some((new.clone(), Cause::Failures)));
    assert_eq!((deployment.rolled_back("failures"), deployment.swaps("guest")), (1, (0, 0)));
    let (guests, problems) = deployment.refresh(&config, &guests).await;
    assert!(problems.is_empty() && view(&guests).beside.is_none(), "the file still holds it");

    deployment.restarted(&config);
    let guests = deployment.load(&config, &Guests::default()).await;
    assert_eq!((view(&guests).current.digest(), view(&guests).beside.is_none()), (&*old, true));
    assert_eq!(deployment.metrics.guest_file_refused.get_or_create(&"guest".into()).get(), 1);
    // The next version is tried again, and so is this one after it.
    let newer = deployment.put(&version("hostile", 2));
    let (guests, _) = deployment.refresh(&config, &guests).await;
    assert_eq!(view(&guests).beside.map(|beside| beside.guest.digest().to_owned()), Some(newer));
    deployment.put(&version("hostile", 1));
    let (guests, _) = deployment.refresh(&config, &guests).await;
    assert_eq!(view(&guests).beside.map(|beside| beside.guest.digest().to_owned()), Some(new));
    // And the running version's own file ends it.
    deployment.put(&version("hostile", 0));
    let (guests, _) = deployment.refresh(&config, &guests).await;
    assert!(view(&guests).beside.is_none() && view(&guests).refused.is_none());
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_canary_begins_it_again() {
    let mut deployment = Deployment::new();
    let config = deployment.durable("canary = { share = 0.5, for = \"1h\" }");
    let old = deployment.put(&version("hostile", 0));
    deployment.restarted(&config);
    let first = deployment.load(&config, &Guests::default()).await;
    let new = deployment.put(&version("hostile", 1));
    deployment.refresh(&config, &first).await;
    deployment.restarted(&config);
    let guests = deployment.load(&config, &Guests::default()).await;
    let view = view(&guests);
    assert_eq!((view.current.digest(), view.beside.map(|beside| beside.guest.digest().to_owned())), (&*old, Some(new)));
    assert_eq!(deployment.metrics.guest_cache_hits.get(), 2);
    assert_eq!(deployment.metrics.guest_compilations.get(), 0);
}

#[tokio::test]
async fn operators_roll_back_promote_and_discard() {
    let mut deployment = Deployment::new();
    let config = deployment.durable("");
    deployment.restarted(&config);
    let mut guests = Guests::default();
    let mut digests = Vec::new();
    for number in 0..4 {
        digests.push(deployment.put(&version("hostile", number)));
        guests = deployment.load(&config, &guests).await;
    }
    let running = |guests: &Guests| view(guests).current.digest().to_owned();
    assert_eq!(running(&guests), digests[3]);
    macro_rules! does {
        ($wish:expr) => {{
            let next = $wish.unwrap_or_else(|error| panic!("{error}"));
            guests = deployment.registry.commit(next, &guests).await;
        }};
    }
    does!(deployment.registry.roll_back(&config, &guests, "guest", None).await);
    assert_eq!(running(&guests), digests[2]);
    does!(deployment.registry.roll_back(&config, &guests, "guest", None).await);
    assert_eq!(running(&guests), digests[1], "back once more is not forward");
    let (refreshed, _) = deployment.refresh(&config, &guests).await;
    assert_eq!(running(&refreshed), digests[1], "the file's version stays out");
    deployment.restarted(&config);
    guests = deployment.load(&config, &Guests::default()).await;
    assert_eq!(running(&guests), digests[1], "after a restart too");
    does!(deployment.registry.roll_back(&config, &guests, "guest", Some(&digests[0][..10])).await);
    assert_eq!(running(&guests), digests[0]);
    assert_eq!(view(&guests).refused.map(|refused| refused.digest), Some(digests[3].clone()));
    does!(deployment.registry.promote(&config, &guests, "guest").await);
    assert_eq!((running(&guests), view(&guests).refused), (digests[3].clone(), None));
    for (wish, words) in [
        (deployment.registry.promote(&config, &guests, "guest").await, "no new version beside"),
        (deployment.registry.discard(&guests, "guest"), "no new version beside"),
        (deployment.registry.discard(&guests, "nobody"), "no guest \"nobody\""),
        (deployment.registry.roll_back(&config, &guests, "guest", Some("feed")).await, "begins with \"feed\""),
        (deployment.registry.roll_back(&config, &guests, "guest", Some(&digests[3])).await, "in service already"),
    ] {
        let error = wish.expect_err(words);
        assert!(error.to_string().contains(words) && !error.help().is_empty(), "{error}");
    }

    let canary = deployment.durable("canary = { share = 0.5, for = \"1h\" }");
    guests = deployment.load(&canary, &guests).await;
    digests.push(deployment.put(&version("hostile", 4)));
    guests = deployment.refresh(&canary, &guests).await.0;
    assert!(view(&guests).beside.is_some());
    does!(deployment.registry.discard(&guests, "guest"));
    assert!(view(&guests).beside.is_none() && running(&guests) == digests[3]);
    assert_eq!(deployment.rolled_back("discarded"), 1);
    digests.push(deployment.put(&version("hostile", 5)));
    guests = deployment.refresh(&canary, &guests).await.0;
    does!(deployment.registry.promote(&canary, &guests, "guest").await);
    assert_eq!(running(&guests), digests[5]);
    // A canary is what goes back first.
    deployment.put(&version("hostile", 6));
    guests = deployment.refresh(&canary, &guests).await.0;
    does!(deployment.registry.roll_back(&canary, &guests, "guest", None).await);
    assert!(view(&guests).beside.is_none() && running(&guests) == digests[5]);
}

#[tokio::test]
async fn without_a_folder_the_version_before_is_in_memory() {
    let deployment = Deployment::new();
    let config = deployment.config(&tables(""));
    let digests: Vec<String> = (0..3).map(|number| crate::guest::digest(&version("hostile", number))).collect();
    let mut guests = Guests::default();
    for number in 0..3 {
        deployment.put(&version("hostile", number));
        guests = deployment.load(&config, &guests).await;
    }
    guests = deployment.registry.roll_back(&config, &guests, "guest", None).await.unwrap();
    assert_eq!(view(&guests).current.digest(), digests[1]);
    let error = deployment.registry.roll_back(&config, &guests, "guest", None).await.expect_err("there is no other");
    assert!(error.help().contains("data_dir"), "{}", error.help());
}
