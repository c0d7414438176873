//! `[[tenant]]`: whose guests they are, and how much all of one tenant's guests may take together.
//!
//! Ceilings are kept by sums: the limits of a tenant's guests may not add up to more. Each guest is held to its limits while it runs, so
//! that the sum is, too.

use super::{Guest, problem::Placed, reader::Table};

/// An owner of guests.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenant {
    /// How guests name it.
    pub id: Placed<String>,
    /// What its guests may take together; `None`: no bound but each guest's own.
    pub ceilings: Ceilings,
}

/// Bounds for the sum over a tenant's guests, by the limits' names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ceilings(Vec<(&'static str, f64)>);

/// A bound by its name, and what one guest takes of it at most.
type Ceiling = (&'static str, fn(&Guest) -> f64);

/// What can be bounded.
const CEILINGS: &[Ceiling] = &[
    ("instances", |guest| guest.limits.instances as f64),
    ("memory_bytes", |guest| guest.limits.memory_bytes as f64 * guest.limits.instances as f64),
    ("cpu_share", |guest| guest.limits.cpu_share),
    ("log_lines_per_s", |guest| guest.limits.log_lines_per_s.into()),
    ("state_keys", |guest| guest.limits.state_keys as f64),
    ("state_bytes", |guest| guest.limits.state_bytes as f64),
];

impl Tenant {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let id = table.required_text("id", "\"acme\"");
        let read = |ceilings: &mut Table<'_>| {
            let bounds = CEILINGS.iter().filter_map(|(name, _)| Some((*name, ceilings.number(name, 0.0..=1e15)?)));
            Ceilings(bounds.collect())
        };
        let ceilings = table.table("ceilings", read).unwrap_or_default();
        Some(Tenant { id: id?, ceilings })
    }

    /// Refuses limits of its guests that add up to more than its ceilings.
    pub(super) fn check(&self, table: &Table<'_>, guests: &[Guest]) {
        let own = || guests.iter().filter(|guest| guest.tenant.as_ref().is_some_and(|tenant| tenant.value == self.id.value));
        for (name, ceiling) in &self.ceilings.0 {
            let takes = CEILINGS.iter().find(|(known, _)| known == name).map(|(_, takes)| takes);
            let sum: f64 = takes.map(|takes| own().map(takes).sum()).unwrap_or_default();
            if sum > *ceiling {
                let tenant = &self.id.value;
                let message = format!("the guests of tenant \"{tenant}\" may take {sum} {name} together, and its ceiling is {ceiling}");
                table.refuse_value(&self.id.place, message, format!("lower limits.{name} of its guests, or raise the ceiling"));
            }
        }
    }
}
