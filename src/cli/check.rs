//! `hookgate check`

use super::{ConfigFile, Exit};
use crate::bridge;

/// Arguments of `hookgate check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Print the problems as one JSON document.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Exit> {
    let problems = bridge::check(&args.file.config).await?;
    if args.json {
        let list: Vec<_> = problems.iter().map(json).collect();
        println!("{}", serde_json::json!({ "ok": list.is_empty(), "problems": list }));
    } else if problems.is_empty() {
        println!("{}: fine", args.file.config.display());
    }
    if problems.is_empty() { Ok(()) } else { Err(Exit::Problems(problems)) }
}

fn json(problem: &crate::config::Problem) -> serde_json::Value {
    let place = &problem.place;
    serde_json::json!({
        "file": place.file.display().to_string(), "line": place.line, "column": place.column,
        "message": problem.message, "help": problem.help,
    })
}
