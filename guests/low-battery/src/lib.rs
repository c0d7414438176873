//! Adds the Kafka header `low-battery: true` to state reports (`devices/{client_id}/state`) whose `battery` is under the threshold.
//!
//! It enriches and does not judge: a report without a readable `battery` passes as it is.
//!
//! Setting: `threshold` (default 20, in the unit of the reports). Grant: `settings`.

use hookgate_guest::prelude::*;
use serde::Deserialize;

struct LowBattery {
    threshold: f64,
}

#[derive(Deserialize)]
struct Report {
    battery: f64,
}

impl Guest for LowBattery {
    fn start() -> Result<Self, String> {
        let threshold: f64 = settings::get_or("threshold", 20.0)?;
        if !threshold.is_finite() {
            return Err(format!("the setting `threshold` = {threshold}: give a number such as 20"));
        }
        Ok(LowBattery { threshold })
    }
}

impl Publish for LowBattery {
    fn handle(&self, _: &Context, _: &Client, message: Message) -> Result<PublishVerdict, Fault> {
        match serde_json::from_slice(&message.payload) {
            Ok(Report { battery }) if battery < self.threshold => Ok(PublishVerdict::change().header("low-battery", "true").into()),
            _ => Ok(PublishVerdict::pass()),
        }
    }
}

hookgate_guest::export!(LowBattery: publish);

#[cfg(test)]
mod tests {
    use hookgate_guest::testing;

    use super::*;

    #[test]
    fn marks_reports_under_the_threshold_and_no_others() {
        let marked = PublishVerdict::from(PublishVerdict::change().header("low-battery", "true"));
        for (threshold, payload, expected) in [
            ("20", r#"{"process_id":"78","action":"unlock","battery":83.4,"lock_state":1,"version":1.1,"client_id":"1"}"#, false),
            ("20", r#"{"process_id":"78","action":"unlock","battery":19.9,"lock_state":1,"version":1.1,"client_id":"1"}"#, true),
            ("20", r#"{"battery":20}"#, false),
            ("20", r#"{"battery":0,"nested":{"a":[1]}}"#, true),
            ("20.5", r#"{"battery":20}"#, true),
            ("20", r#"{"battery":"7"}"#, false),
            ("20", r#"{"level":7}"#, false),
            ("20", "\u{0}", false),
        ] {
            testing::set("threshold", threshold);
            let guest = LowBattery::start().expect("a good setting");
            let verdict = guest.handle(&testing::context(), &testing::client("1"), testing::message("devices/1/state", payload));
            assert_eq!(verdict == Ok(marked.clone()), expected, "{payload}");
            assert!(expected || verdict == Ok(PublishVerdict::Pass), "{payload}");
        }
        for threshold in ["low", "NaN", ""] {
            testing::set("threshold", threshold);
            assert!(LowBattery::start().is_err_and(|problem| problem.contains("threshold")));
        }
    }
}
