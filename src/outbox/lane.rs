//! Lanes: so many records of one key unconfirmed at once, and no more.
//!
//! A lane belongs to a Kafka topic and a record key; records without a key share one. Who finds its lane full waits in line, first come,
//! first served, and is let in by whoever leaves. Lanes exist only while something is in them: the memory is bounded by the records that
//! are outstanding and the tasks that wait, one record each.
//!
//! No task and no timer: a lane moves when a [`Pass`] is dropped, mostly by a delivery report.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    event::{Bytes, Text},
    kafka::Record,
};

/// The lanes of one cluster.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    busy: Mutex<HashMap<Name, Lane>>,
}

/// Which lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name {
    topic: Text,
    key: Option<Bytes>,
}

#[derive(Debug, Default)]
struct Lane {
    inside: usize,
    /// Those who wait, and how many each lets beside itself.
    line: VecDeque<(usize, oneshot::Sender<Pass>)>,
}

/// The right to be in a lane; dropping it lets the next one in.
#[derive(Debug)]
pub(super) struct Pass {
    lanes: Arc<Lanes>,
    name: Name,
    /// It was never taken.
    void: bool,
}

impl Lanes {
    /// Waits until fewer than `most` records are in the record's lane. Cancel-safe: who gives up leaves the line.
    pub(super) async fn enter(self: &Arc<Self>, record: &Record, most: usize) -> Option<Pass> {
        let name = Name { topic: record.topic.clone(), key: record.key.clone() };
        let wait = {
            let mut busy = self.busy.lock();
            let lane = busy.entry(name.clone()).or_default();
            if lane.line.is_empty() && lane.inside < most {
                lane.inside += 1;
                return Some(Pass { lanes: Arc::clone(self), name, void: false });
            }
            let (turn, wait) = oneshot::channel();
            lane.line.push_back((most, turn));
            wait
        };
        wait.await.ok() // never an error: the line is in `self`, and everybody in it is called
    }

    /// One has left; calls those who now have room.
    fn leave(self: &Arc<Self>, name: &Name) {
        let mut busy = self.busy.lock();
        let Some(lane) = busy.get_mut(name) else { return };
        lane.inside -= 1;
        while let Some((_, turn)) = lane.line.pop_front_if(|(most, _)| lane.inside < *most) {
            let pass = Pass { lanes: Arc::clone(self), name: name.clone(), void: false };
            match turn.send(pass) {
                Ok(()) => lane.inside += 1,
                Err(mut pass) => pass.void = true, // it has given up; the lock is held, so that dropping it must not come back here
            }
        }
        if lane.inside == 0 && lane.line.is_empty() {
            busy.remove(name);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.void {
            self.lanes.leave(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Option<&'static str>) -> Record {
        Record { topic: "t".into(), key: key.map(Bytes::from), ..Record::default() }
    }

    #[tokio::test]
    async fn so_many_of_a_key_and_no_more() {
        let lanes = Arc::new(Lanes::default());
        let enter = |key, most| {
            let lanes = Arc::clone(&lanes);
            Box::pin(async move { lanes.enter(&record(key), most).await.expect("a pass") })
        };
        let (first, second) = (enter(Some("a"), 2).await, enter(Some("a"), 2).await);
        let (other, keyless) = (enter(Some("b"), 1).await, enter(None, 1).await);
        let third = tokio::spawn(enter(Some("a"), 2));
        let gives_up = tokio::spawn(enter(Some("a"), 2));
        let fifth = tokio::spawn(enter(Some("a"), 2));
        let no_key = tokio::spawn(enter(None, 1));
        tokio::task::yield_now().await;
        assert!(![&third, &gives_up, &fifth, &no_key].into_iter().any(tokio::task::JoinHandle::is_finished));
        drop(first);
        let third = third.await.expect("the first in line");
        tokio::task::yield_now().await;
        assert!(!gives_up.is_finished());
        gives_up.abort();
        assert!(gives_up.await.is_err());
        drop(second);
        let fifth = fifth.await.expect("the one behind who gave up");
        drop(keyless);
        let no_key = no_key.await.expect("records without a key share a lane");
        assert_eq!(lanes.busy.lock().len(), 3);
        drop((third, fifth, other, no_key));
        assert!(lanes.busy.lock().is_empty(), "idle lanes are forgotten");
    }

    #[tokio::test]
    async fn the_line_is_first_come_first_served() {
        let lanes = Arc::new(Lanes::default());
        let first = lanes.enter(&record(Some("a")), 1).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..5)
            .map(|number| {
                let (lanes, order) = (Arc::clone(&lanes), Arc::clone(&order));
                tokio::spawn(async move {
                    let pass = lanes.enter(&record(Some("a")), 1).await;
                    order.lock().push(number);
                    drop(pass);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(first);
        for task in tasks {
            task.await.expect("it ends");
        }
        assert_eq!(*order.lock(), [0, 1, 2, 3, 4]);
        assert!(lanes.busy.lock().is_empty());
    }
}
