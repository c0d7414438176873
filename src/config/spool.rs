//! `[spool]`: the log on this machine's disk for records that are acknowledged before Kafka has them, where there is a `data_dir`.

use std::{path::PathBuf, time::Duration};

use super::reader::Table;

/// Where and how much is spooled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    /// `<data_dir>/spool`; a folder for each cluster in it.
    pub folder: PathBuf,
    /// Of each cluster, on disk.
    pub max_bytes: u64,
    /// One file of the log.
    pub segment_bytes: u64,
    /// What happens to a record that finds it full.
    pub when_full: WhenFull,
    /// The age of the oldest record at which an alarm is raised.
    pub alarm_age: Duration,
    /// What happens when a log cannot be read as a whole at the start.
    pub on_damage: OnDamage,
}

/// What happens to a record that finds the spool full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits for room, and its publisher with it.
    Wait,
    /// It is refused: a publisher hears 0x97 (quota exceeded), an event that merely happened is dropped, counted and logged.
    Refuse,
}

/// What happens when a log cannot be read as a whole at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// Hookgate does not start, and says what is damaged.
    Refuse,
    /// It goes on without the records that cannot be read, counted and logged; the damaged file is kept beside.
    Skip,
}

impl Spool {
    /// Reads `[spool]` of the top table.
    pub(super) fn read(table: &Table<'_>, data_dir: Option<PathBuf>) -> Option<Self> {
        let read = |spool: &mut Table<'_>| {
            let max_bytes = spool.integer("max_bytes", 1 << 20..=1 << 50, Self::DEFAULT.max_bytes);
            let segment_bytes = spool.integer("segment_bytes", 1 << 16..=1 << 30, Self::DEFAULT.segment_bytes);
            let when_full = spool.choice("when_full", &[("wait", WhenFull::Wait), ("refuse", WhenFull::Refuse)]);
            let on_damage = spool.choice("on_damage", &[("refuse", OnDamage::Refuse), ("skip", OnDamage::Skip)]);
            let alarm_age = spool.duration("alarm_age", Duration::from_secs(1)..=Duration::from_secs(30 * 86_400));
            if let (true, Some(place)) = (segment_bytes * 2 > max_bytes, spool.place_of("segment_bytes").or(spool.place_of("max_bytes"))) {
                let help = "room comes back a segment at a time: allow at least two of them";
                spool.refuse_at(&place, "segment_bytes", format_args!(" = {segment_bytes} is more than half of max_bytes"), help);
            }
            let when_full = when_full.map_or(Self::DEFAULT.when_full, |when_full| when_full.value);
            let alarm_age = alarm_age.unwrap_or(Self::DEFAULT.alarm_age);
            let on_damage = on_damage.map_or(Self::DEFAULT.on_damage, |on_damage| on_damage.value);
            Spool { max_bytes, segment_bytes, when_full, alarm_age, on_damage, ..Self::DEFAULT }
        };
        let settings = table.table("spool", |spool| {
            if data_dir.is_none() {
                let text = "does nothing without a `data_dir`: there is nowhere to keep it";
                spool.refuse(text, "write data_dir = \"data\" in [node], or remove [spool]");
            }
            read(spool)
        });
        Some(Spool { folder: data_dir?.join("spool"), ..settings.unwrap_or(Self::DEFAULT) })
    }

    const DEFAULT: Self = Spool {
        folder: PathBuf::new(),
        max_bytes: 10 << 30,
        segment_bytes: 16 << 20,
        when_full: WhenFull::Wait,
        alarm_age: Duration::from_secs(600),
        on_damage: OnDamage::Refuse,
    };
}
