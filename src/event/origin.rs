//! Which publish of which session an event is, and which clusters have it already.
//!
//! A client sends a publish again that was not acknowledged. Where a route must have it once, the session gives the receipt an
//! [`Origin`], and the same one to the repetition; the way to the cluster notes in it what it knows, so that neither asks the other.
//!
//! Absent: how a cluster is asked (the outbox's), which publish is a repetition (the session's).

use parking_lot::Mutex;

use super::Text;

/// A publish, over all its repetitions.
#[derive(Debug)]
pub struct Origin {
    /// The session that published it, by the number that it is stored under.
    pub session: u64,
    /// The packet identifier.
    pub id: u16,
    /// Of topic, payload, QoS, retain flag and properties.
    pub digest: u64,
    marks: Mutex<Vec<Mark>>,
}

/// What is known about an origin and one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    cluster: Text,
    knowledge: Knowledge,
}

/// What is known about whether a cluster has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// It was on its way, under this number, when the process ended that sent it: the cluster's marker says whether it arrived.
    Former(u64),
    /// It is on its way, or was and did not arrive.
    Underway,
    /// The cluster has it.
    Stored,
}

impl Origin {
    /// A publish that went nowhere yet.
    pub fn new(session: u64, id: u16, digest: u64) -> Self {
        Origin { session, id, digest, marks: Mutex::default() }
    }

    /// What a former process left: it was on its way to `cluster` under `number`.
    pub fn was_underway(&self, cluster: &Text, number: u64) {
        self.note(cluster, Knowledge::Former(number));
    }

    /// It is on its way to a cluster: from now on the store may know of it.
    pub fn is_underway(&self, cluster: &Text) {
        self.note(cluster, Knowledge::Underway);
    }

    /// A cluster has it.
    pub fn is_stored(&self, cluster: &Text) {
        self.note(cluster, Knowledge::Stored);
    }

    /// What is known about a cluster; `None`: it never was on its way there.
    pub fn knows(&self, cluster: &str) -> Option<Knowledge> {
        self.marks.lock().iter().find(|mark| &*mark.cluster == cluster).map(|mark| mark.knowledge)
    }

    /// Whether any cluster may have it.
    pub fn may_be_stored(&self) -> bool {
        self.marks.lock().iter().any(|mark| mark.knowledge != Knowledge::Underway)
    }

    /// Every cluster for which the store may know of it.
    pub fn clusters(&self) -> Vec<Text> {
        self.marks.lock().iter().map(|mark| mark.cluster.clone()).collect()
    }

    fn note(&self, cluster: &Text, knowledge: Knowledge) {
        let mut marks = self.marks.lock();
        match marks.iter_mut().find(|mark| mark.cluster == *cluster) {
            Some(mark) => mark.knowledge = knowledge,
            None => marks.push(Mark { cluster: cluster.clone(), knowledge }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cluster_is_known_by_itself() {
        let (kafka, eu) = (Text::from_static("kafka"), Text::from_static("eu"));
        let origin = Origin::new(1, 2, 3);
        assert_eq!((origin.knows("kafka"), origin.may_be_stored()), (None, false));
        origin.is_underway(&kafka);
        assert!(!origin.may_be_stored(), "it would have been noted");
        origin.was_underway(&eu, 7);
        assert!(origin.may_be_stored());
        origin.is_stored(&kafka);
        assert_eq!((origin.knows("kafka"), origin.knows("eu")), (Some(Knowledge::Stored), Some(Knowledge::Former(7))));
        assert_eq!(origin.clusters(), [kafka, eu]);
    }
}
