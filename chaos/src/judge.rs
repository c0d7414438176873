//! What must hold of what Kafka has, beside what the clients know. Every violation is told by name and place.
//!
//! - Every acknowledged message is there.
//! - Of each client and class the first occurrences are in the order in which they were sent, in one partition.
//! - What its class promises about repetitions.
//! - Nothing is there that was not sent, to its last byte.
//!
//! Sets are kept as ranges, so that millions of messages take little room; no Kafka and no clock in here.

use std::collections::BTreeMap;

use crate::{
    books::Books,
    class::{ClassId, Repeats, Stream, client_id},
    payload::Mark,
    ranges::Ranges,
};

/// Violations of one kind that are told one by one.
const EXAMPLES: usize = 20;

/// A record as Kafka has it.
#[derive(Clone, Debug)]
pub(crate) struct Record<'a> {
    /// Whose topic it is; `None`: the dead letters.
    pub(crate) stream: Option<Stream>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    Lost,
    Twice,
    Unexplained,
    Disorder,
    Invented,
    Astray,
    Session,
    Unanswered,
    Trouble,
}

impl Wrong {
    fn words(self) -> &'static str {
        match self {
            Wrong::Lost => "acknowledged, and not in Kafka",
            Wrong::Twice => "twice in Kafka, though promised once",
            Wrong::Unexplained => "twice in Kafka for no reason: sent once by its client, or nothing was broken",
            Wrong::Disorder => "out of its client's order",
            Wrong::Invented => "in Kafka, and never sent like this",
            Wrong::Astray => "in another partition than its client's other messages",
            Wrong::Session => "sessions lost: the client was told that there is none",
            Wrong::Unanswered => "never answered, though everything was well again",
            Wrong::Trouble => "troubles",
        }
    }
}

/// Everything that is wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    kinds: BTreeMap<Wrong, (u64, Vec<String>)>,
}

impl Findings {
    pub(crate) fn note(&mut self, wrong: Wrong, count: u64, example: impl FnOnce() -> String) {
        let (total, examples) = self.kinds.entry(wrong).or_default();
        *total += count;
        if examples.len() < EXAMPLES {
            examples.push(example());
        }
    }

    /// A line for each kind, and one for each example.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = |(wrong, (total, examples)): (&Wrong, &(u64, Vec<String>))| {
            let head = format!("{total} {}:", wrong.words());
            std::iter::once(head).chain(examples.iter().map(|example| format!("  {example}"))).collect::<Vec<_>>()
        };
        self.kinds.iter().flat_map(lines).collect()
    }

    #[cfg(test)]
    fn counts(&self) -> Vec<(Wrong, u64)> {
        self.kinds.iter().map(|(wrong, (total, _))| (*wrong, *total)).collect()
    }
}

/// What the judge has seen of one client's messages in one topic.
#[derive(Debug, Default)]
struct Seen {
    numbers: Ranges,
    partition: Option<i32>,
    repeats: u64,
}

/// What is known in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) class: &'static str,
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    /// Messages that are in Kafka, in each topic of its class.
    pub(crate) stored: u64,
    /// Records beyond the first of their message.
    pub(crate) repeats: u64,
}

/// Takes records one by one, then says what is wrong.
pub(crate) struct Judge<'a> {
    seed: u64,
    books: &'a [Books],
    /// Whether anything was broken.
    faults: bool,
    seen: BTreeMap<(u32, Stream), Seen>,
    findings: Findings,
    scratch: Vec<u8>,
    pub(crate) records: u64,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(seed: u64, books: &'a [Books], faults: bool) -> Self {
        Judge { seed, books, faults, seen: BTreeMap::new(), findings: Findings::default(), scratch: Vec::new(), records: 0 }
    }

    /// Notes the next record; those of one partition come in its order.
    pub(crate) fn note(&mut self, record: &Record<'_>) {
        self.records += 1;
        let Record { stream, partition, offset, .. } = *record;
        let topic = || stream.map_or_else(|| "the dead letters".to_owned(), Stream::kafka_topic);
        let place = || format!("in {} partition {partition} offset {offset}", topic());
        let Some(stream) = stream else { return self.findings.note(Wrong::Trouble, 1, || format!("a record {}", place())) };
        let (mark, again) = match self.identify(stream, record) {
            Ok(known) => known,
            Err(why) => return self.findings.note(Wrong::Invented, 1, || format!("{}: {why}", place())),
        };
        let who = || format!("{} {} {} {}", client_id(mark.client), stream.class.name(), mark.number, place());
        let seen = self.seen.entry((mark.client, stream)).or_default();
        let expected = *seen.partition.get_or_insert(partition);
        if expected != partition {
            self.findings.note(Wrong::Astray, 1, || format!("{}, not {expected}", who()));
        }
        let last = seen.numbers.last();
        if !seen.numbers.insert(mark.number) {
            seen.repeats += 1;
            match stream.route().map(|route| route.repeats) {
                Some(Repeats::Never) => self.findings.note(Wrong::Twice, 1, who),
                Some(Repeats::WhenSentAgain) if !again || !self.faults => self.findings.note(Wrong::Unexplained, 1, who),
                Some(Repeats::AfterFaults) if !self.faults => self.findings.note(Wrong::Unexplained, 1, who),
                _ => {}
            }
        } else if let Some(last) = last.filter(|last| *last > mark.number) {
            self.findings.note(Wrong::Disorder, 1, || format!("{} after {last}", who()));
        }
    }

    /// Whose it is, and whether its client sent it more than once.
    fn identify(&mut self, stream: Stream, record: &Record<'_>) -> Result<(Mark, bool), String> {
        let mark = Mark::read(record.value, &mut self.scratch)?;
        if mark.seed != self.seed {
            return Err(format!("of another run: {mark:?}"));
        }
        if mark.class != stream.class {
            return Err(format!("a message of class {}", mark.class.name()));
        }
        if record.key != client_id(mark.client).as_bytes() {
            return Err(format!("under the key {:?}: {mark:?}", String::from_utf8_lossy(record.key)));
        }
        let book = self.books.iter().find(|books| books.client == mark.client).and_then(|books| books.class(mark.class));
        let book = book.filter(|book| mark.number < book.next).ok_or_else(|| format!("nobody sent {mark:?}"))?;
        Ok((mark, book.again.contains(mark.number)))
    }

    /// Compares with what the clients know.
    pub(crate) fn finish(mut self) -> (Findings, Vec<Tally>) {
        let mut tallies: BTreeMap<ClassId, Tally> = BTreeMap::new();
        let nothing = Seen::default();
        for books in self.books {
            let client = client_id(books.client);
            for book in &books.classes {
                let class = book.class.name();
                let tally = tallies.entry(book.class).or_insert_with(|| Tally { class, ..Tally::default() });
                for stream in book.class.streams() {
                    let seen = self.seen.get(&(books.client, stream)).unwrap_or(&nothing);
                    for number in book.acknowledged.without(&seen.numbers) {
                        self.findings.note(Wrong::Lost, 1, || format!("{client} {class} {number} in {}", stream.kafka_topic()));
                    }
                    tally.stored += seen.numbers.len();
                    tally.repeats += seen.repeats;
                }
                tally.sent += book.next;
                tally.acknowledged += book.acknowledged.len();
                tally.refused += book.refused.len();
            }
            if books.lost_sessions > 0 {
                self.findings.note(Wrong::Session, books.lost_sessions, || format!("{client}: {} times", books.lost_sessions));
            }
            if books.open > 0 {
                self.findings.note(Wrong::Unanswered, books.open, || format!("{client}: {}", books.open));
            }
        }
        (self.findings, tallies.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 5;
    const QOS_1: ClassId = ClassId(0);
    const SPOOL: ClassId = ClassId(2);
    const ONCE: ClassId = ClassId(3);
    const FAN: ClassId = ClassId(6);

    /// What one client knows: it sent `next` messages.
    fn books(class: ClassId, next: u64, acknowledged: &[u64], again: &[u64]) -> Books {
        let mut books = Books::new(0, &[class]);
        let book = &mut books.classes[0];
        (book.next, book.acknowledged, book.again) = (next, acknowledged.iter().copied().collect(), again.iter().copied().collect());
        books
    }

    fn value(class: ClassId, number: u64) -> Vec<u8> {
        let mut value = Vec::new();
        Mark { seed: SEED, client: 0, class, number }.write(&mut value);
        value
    }

    /// `stored`: partition and number, in Kafka's order.
    fn check(books: Books, faults: bool, stored: &[(i32, u64)], expected: &[(Wrong, u64)]) -> Vec<Tally> {
        let class = books.classes[0].class;
        let all = [books];
        let mut judge = Judge::new(SEED, &all, faults);
        for (offset, (partition, number)) in stored.iter().enumerate() {
            let value = value(class, *number);
            let stream = class.streams().next();
            judge.note(&Record { stream, partition: *partition, offset: offset as i64, key: client_id(0).as_bytes(), value: &value });
        }
        let (findings, tallies) = judge.finish();
        assert_eq!(findings.counts(), expected, "{:?}", findings.lines());
        assert_eq!(findings.lines().is_empty(), expected.is_empty());
        tallies
    }

    #[test]
    fn what_is_right_is_right() {
        let tallies = check(books(QOS_1, 4, &[0, 1, 3], &[1]), true, &[(1, 0), (1, 1), (1, 1), (1, 3)], &[]);
        assert_eq!(tallies, [Tally { class: "qos1", sent: 4, acknowledged: 3, refused: 0, stored: 3, repeats: 1 }]);
        check(books(QOS_1, 2, &[], &[]), false, &[], &[]);
        check(books(QOS_1, 2, &[], &[]), false, &[(0, 1)], &[]);
        check(books(SPOOL, 2, &[0, 1], &[]), true, &[(0, 0), (0, 1), (0, 0), (0, 1)], &[]);
        check(books(ONCE, 2, &[0, 1], &[0, 1]), true, &[(0, 0), (0, 1)], &[]);
    }

    #[test]
    fn every_broken_promise_is_caught() {
        let of = |class, again: &[u64]| books(class, 3, &[0, 1, 2], again);
        check(of(QOS_1, &[]), true, &[(0, 0), (0, 2)], &[(Wrong::Lost, 1)]);
        check(of(QOS_1, &[]), true, &[], &[(Wrong::Lost, 3)]);
        check(of(QOS_1, &[]), true, &[(0, 0), (0, 2), (0, 1)], &[(Wrong::Disorder, 1)]);
        check(of(QOS_1, &[]), true, &[(0, 0), (0, 1), (1, 2)], &[(Wrong::Astray, 1)]);
        check(of(QOS_1, &[0]), true, &[(0, 0), (0, 1), (0, 1), (0, 2)], &[(Wrong::Unexplained, 1)]);
        check(of(QOS_1, &[1]), false, &[(0, 0), (0, 1), (0, 1), (0, 2)], &[(Wrong::Unexplained, 1)]);
        check(of(SPOOL, &[1]), false, &[(0, 0), (0, 1), (0, 1), (0, 2)], &[(Wrong::Unexplained, 1)]);
        check(of(ONCE, &[1]), true, &[(0, 0), (0, 1), (0, 1), (0, 2)], &[(Wrong::Twice, 1)]);
        check(of(QOS_1, &[]), true, &[(0, 0), (0, 1), (0, 2), (0, 3)], &[(Wrong::Invented, 1)]);
        let lost_and_open = Books { lost_sessions: 2, open: 7, ..of(QOS_1, &[]) };
        check(lost_and_open, true, &[(0, 0), (0, 1), (0, 2)], &[(Wrong::Session, 2), (Wrong::Unanswered, 7)]);
    }

    #[test]
    fn a_message_of_several_routes_must_be_in_all_their_topics() {
        let all = [books(FAN, 1, &[0], &[])];
        let value = value(FAN, 0);
        for missing in 0..3 {
            let mut judge = Judge::new(SEED, &all, true);
            for stream in FAN.streams().filter(|stream| stream.route != missing) {
                judge.note(&Record { stream: Some(stream), partition: 0, offset: 0, key: client_id(0).as_bytes(), value: &value });
            }
            assert_eq!(judge.finish().0.counts(), [(Wrong::Lost, 1)]);
        }
    }

    #[test]
    fn dead_letters_are_trouble() {
        let mut judge = Judge::new(SEED, &[], true);
        judge.note(&Record { stream: None, partition: 0, offset: 0, key: b"", value: b"" });
        assert_eq!(judge.finish().0.counts(), [(Wrong::Trouble, 1)]);
    }

    #[test]
    fn what_nobody_sent_like_this_is_invented() {
        let good = value(QOS_1, 0);
        let mut spoilt = good.clone();
        *spoilt.last_mut().unwrap() ^= 1;
        let mut foreign = Vec::new();
        Mark { seed: SEED + 1, client: 0, class: QOS_1, number: 0 }.write(&mut foreign);
        let key = client_id(0);
        for (class, key, value) in [
            (QOS_1, key.as_bytes(), &spoilt[..]),
            (QOS_1, key.as_bytes(), &foreign),
            (QOS_1, key.as_bytes(), &good[..10]),
            (QOS_1, b"another", &good),
            (SPOOL, key.as_bytes(), &good),
        ] {
            let all = [books(QOS_1, 1, &[], &[])];
            let mut judge = Judge::new(SEED, &all, true);
            judge.note(&Record { stream: class.streams().next(), partition: 0, offset: 0, key, value });
            assert_eq!(judge.finish().0.counts(), [(Wrong::Invented, 1)]);
        }
    }
}
