//! The faults: what is done to whom, and for how long.

use std::{fmt, time::Duration};

use crate::client::Disturbance;

/// One fault, with everything that was drawn for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// SIGKILL to Hookgate, and started again.
    GateKill,
    /// SIGTERM to Hookgate, and started again when it has ended.
    GateTerminate,
    /// SIGSTOP to Hookgate, later SIGCONT.
    GatePause { time: Duration },
    /// Another configuration; `kafka`: with another `[kafka]`.
    Reload { kafka: bool, by_signal: bool },
    /// Another version of the guest in its place.
    SwapGuest,
    /// SIGKILL to a broker, and started again after a while.
    BrokerKill { node: usize, time: Duration },
    /// SIGTERM to a broker, and started again when it has ended and after a while.
    BrokerTerminate { node: usize, time: Duration },
    /// SIGSTOP to a broker, later SIGCONT.
    BrokerPause { node: usize, time: Duration },
    /// What is done to the network between Hookgate and one broker, or all.
    Network { node: Option<usize>, trouble: Trouble, time: Duration },
    /// Not a byte is left on the disk.
    DiskFull { time: Duration },
    /// Whoever writes to the disk waits.
    DiskFrozen { time: Duration },
    /// The same for most of the time, again and again.
    DiskSlow { time: Duration },
    /// The connections of some clients; `pick` says which.
    Clients { disturbance: Disturbance, percent: u64, pick: u64 },
}

/// What is done to a network connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Connections are closed, and so are new ones.
    Cut,
    /// Each byte arrives later.
    Delay { by: Duration },
    /// So many bytes a second, in each direction and connection.
    Throttle { bytes_per_s: u64 },
    /// Nothing passes in these directions; then everything does.
    Stall { ways: Ways },
    /// What goes in these directions is lost, and nobody notices; then connections are closed.
    Swallow { ways: Ways },
}

/// Directions, seen from Hookgate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ways {
    Out,
    In,
    Both,
}

impl Ways {
    pub(crate) fn has(self, way: Ways) -> bool {
        self == way || self == Ways::Both
    }
}

impl Fault {
    /// What is counted under one name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Fault::GateKill => "hookgate killed",
            Fault::GateTerminate => "hookgate terminated",
            Fault::GatePause { .. } => "hookgate paused",
            Fault::Reload { kafka: false, .. } => "routes reloaded",
            Fault::Reload { kafka: true, .. } => "[kafka] reloaded",
            Fault::SwapGuest => "guest swapped",
            Fault::BrokerKill { .. } => "broker killed",
            Fault::BrokerTerminate { .. } => "broker terminated",
            Fault::BrokerPause { .. } => "broker paused",
            Fault::Network { trouble, .. } => match trouble {
                Trouble::Cut => "network cut",
                Trouble::Delay { .. } => "network delayed",
                Trouble::Throttle { .. } => "network throttled",
                Trouble::Stall { .. } => "network stalled",
                Trouble::Swallow { .. } => "network half-open",
            },
            Fault::DiskFull { .. } => "disk full",
            Fault::DiskFrozen { .. } => "disk frozen",
            Fault::DiskSlow { .. } => "disk slow",
            Fault::Clients { disturbance, .. } => match disturbance {
                Disturbance::Cut => "clients cut",
                Disturbance::Goodbye => "clients left",
                Disturbance::Takeover => "clients taken over",
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Fault::GateKill | Fault::GateTerminate | Fault::SwapGuest => Ok(()),
            Fault::Reload { by_signal, .. } => f.write_str(if *by_signal { " by SIGHUP" } else { " by its file" }),
            Fault::GatePause { time } | Fault::DiskFull { time } | Fault::DiskFrozen { time } | Fault::DiskSlow { time } => {
                write!(f, " for {time:.1?}")
            }
            Fault::BrokerKill { node, time } | Fault::BrokerTerminate { node, time } | Fault::BrokerPause { node, time } => {
                write!(f, ": {} for {time:.1?}", node + 1)
            }
            Fault::Network { node, trouble, time } => {
                match node {
                    Some(node) => write!(f, ": to broker {}", node + 1)?,
                    None => f.write_str(": to all brokers")?,
                }
                match trouble {
                    Trouble::Cut => Ok(()),
                    Trouble::Delay { by } => write!(f, " by {by:?}"),
                    Trouble::Throttle { bytes_per_s } => write!(f, " to {bytes_per_s} bytes/s"),
                    Trouble::Stall { ways } | Trouble::Swallow { ways } => write!(f, " ({ways:?})"),
                }?;
                write!(f, " for {time:.1?}")
            }
            Fault::Clients { percent, .. } => write!(f, ": {percent} %"),
        }
    }
}
