//! Every normative statement of MQTT 3.1.1 and 5.0 by its number: a check over a raw socket, or the reason why there is none.
//!
//! The tables are `three` and `five_…`; `docs/conformance.md` is written from them (`UPDATE=1 cargo test --test integration
//! conformance::the_page`). A check is a plain function that takes a [`Place`] at a running Hookgate and panics where the statement does not
//! hold; what is the same in both documents is one function, told by the place's level which protocol to speak.

mod acknowledge;
mod auth;
mod closing;
mod connack;
mod connect;
mod delivery;
mod five_operation;
mod five_packets;
mod flow;
mod format;
mod numbers;
mod place;
mod publish;
mod retain;
mod row;
mod session;
mod subscribe;
mod three;
mod topics;
mod websocket;
mod will;

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use self::{
    place::{Place, said},
    row::{Check, Document, Row},
};
use crate::support::Gate;

const FIVE: Document =
    Document { title: "MQTT 5.0", level: 5, chapters: &[five_packets::ROWS, five_operation::ROWS], numbers: numbers::FIVE };
const THREE: Document = Document { title: "MQTT 3.1.1", level: 4, chapters: &[three::ROWS], numbers: numbers::THREE };

/// Runs all rows of a document whose numbers begin with one of `sections`, side by side, and tells of all that fail.
async fn hold(document: &Document, sections: &[&str]) {
    let gate = Gate::start("", &[]).await;
    let mine = |(number, _, _): &&Row| sections.iter().any(|section| number.starts_with(&format!("MQTT-{section}.")));
    let mut running = Vec::new();
    for (number, words, check) in document.rows().filter(mine) {
        if let Check::Wire(name, check) = check {
            let name_here = number.replace("MQTT-", "c");
            let place = Place { address: gate.address(), level: document.level, name: name_here };
            running.push((number, words, name, tokio::spawn(check(place))));
        }
    }
    assert!(!running.is_empty(), "no row begins with {sections:?}");
    let mut failed = Vec::new();
    for (number, words, name, task) in running {
        if let Err(error) = task.await {
            failed.push(format!("[{number}] {words}\n    {name}: {}", said(error)));
        }
    }
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), document.title, failed.join("\n"));
}

#[tokio::test]
async fn five_packet_format() {
    hold(&FIVE, &["1", "2"]).await;
}

#[tokio::test]
async fn five_connecting() {
    hold(&FIVE, &["3.1", "3.2"]).await;
}

#[tokio::test]
async fn five_publishing() {
    hold(&FIVE, &["3.3", "3.4", "3.5", "3.6", "3.7"]).await;
}

#[tokio::test]
async fn five_subscribing_and_closing() {
    hold(&FIVE, &["3.8", "3.9", "3.10", "3.11", "3.12", "3.14", "3.15"]).await;
}

#[tokio::test]
async fn five_operation() {
    hold(&FIVE, &["4", "6"]).await;
}

#[tokio::test]
async fn three_packet_format_and_connecting() {
    hold(&THREE, &["1", "2", "3.1", "3.2"]).await;
}

#[tokio::test]
async fn three_other_packets() {
    hold(&THREE, &["3.3", "3.6", "3.8", "3.9", "3.10", "3.12", "3.14"]).await;
}

#[tokio::test]
async fn three_operation() {
    hold(&THREE, &["4", "6", "7"]).await;
}

#[test]
fn every_statement_has_one_row_in_its_place() {
    for (document, count) in [(FIVE, 251), (THREE, 141)] {
        let expected = document.all_numbers();
        assert_eq!(expected.len(), count, "{}", document.title);
        let rows: Vec<&str> = document.rows().map(|(number, _, _)| *number).collect();
        let (wanted, present): (BTreeSet<&str>, BTreeSet<&str>) =
            (expected.iter().map(String::as_str).collect(), rows.iter().copied().collect());
        let missing: Vec<_> = wanted.difference(&present).collect();
        let foreign: Vec<_> = present.difference(&wanted).collect();
        assert!(missing.is_empty() && foreign.is_empty(), "{}: missing {missing:?}, foreign {foreign:?}", document.title);
        assert_eq!(rows, expected, "{}: twice, or out of order", document.title);
    }
}

#[test]
fn the_page_is_what_the_tables_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
    let page = page();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &page).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "docs/conformance.md is not what the tables say; renew it by running this test with UPDATE=1");
}

fn page() -> String {
    let mut page = String::from(
        "# Conformance\n\nEvery normative statement of the OASIS documents by its number, in our own words. Written from the tables in\n\
         `tests/integration/mqtt/conformance/`; a test compares this page with them, and with `UPDATE=1` in its environment renews it.\n\n\
         ✔: the named check in that folder proves it over a raw socket, on every run of the tests. *client*: it binds clients, and a server\n\
         cannot tell. →: another test proves it. –: why there is no test.\n",
    );
    for document in [THREE, FIVE] {
        let count = |wanted: fn(&Check) -> bool| document.rows().filter(|(_, _, check)| wanted(check)).count();
        let (wire, client) = (count(|check| matches!(check, Check::Wire(..))), count(|check| matches!(check, Check::Client(_))));
        let (elsewhere, none) = (count(|check| matches!(check, Check::Elsewhere(_))), count(|check| matches!(check, Check::Reason(_))));
        write!(
            page,
            "\n## {}\n\n{} statements: {wire} checked over a raw socket, {elsewhere} by another test, {client} for clients alone, {none} not \
             testable.\n\n| number | statement | check |\n| --- | --- | --- |\n",
            document.title,
            document.rows().count(),
        )
        .unwrap();
        for (number, words, check) in document.rows() {
            let check = match check {
                Check::Wire(name, _) => format!("✔ `{name}`"),
                Check::Client("") => "*client*".to_owned(),
                Check::Client(why) => format!("*client*: {why}"),
                Check::Elsewhere(test) => format!("→ {test}"),
                Check::Reason(why) => format!("– {why}"),
            };
            writeln!(page, "| {number} | {} | {check} |", words.replace('|', "\\|")).unwrap();
        }
    }
    page
}
