//! What Umbel's benchmarks compare with: the floor program; and calls over HTTP, which a load of connections does not make.
//!
//! ```text
//! umbel-floor serve --data-bytes 128 --frames-per-send 1
//! umbel-floor call --port P --path /publish --connections 50 --data-bytes 128 --warmup 2 --seconds 8 --server-pid P
//! ```

#![forbid(unsafe_code)]

mod calls;
// The load reads the same clocks, and times of both are compared.
#[path = "../../../src/load/clock.rs"]
mod clock;
mod floor;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::str::FromStr;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    match Options::parse(words).and_then(|options| run(&command, &options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("umbel-floor: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, options: &Options) -> Result<(), String> {
    match command {
        "serve" => floor::serve(options.number("data-bytes")?, options.number("frames-per-send")?),
        "call" => calls::run(options).map(|result| println!("{result}")),
        _ => Err("say serve or call".into()),
    }
}

/// Pairs of `--name` and value.
struct Options(BTreeMap<String, String>);

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = BTreeMap::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("{word:?} is no option"))?;
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            options.insert(name.to_owned(), value);
        }
        Ok(Self(options))
    }

    fn text(&self, name: &str) -> Result<&str, String> {
        self.0.get(name).map(String::as_str).ok_or_else(|| format!("--{name} is missing"))
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<T, String> {
        let text = self.text(name)?;
        text.parse().map_err(|_| format!("--{name}: cannot read {text:?}"))
    }
}

/// The data of a publication: when it was made, and as many bytes as asked for.
fn padded_data(time: u64, bytes: usize) -> String {
    let mut data = format!(r#"{{"t":{time},"pad":""#);
    let fill = bytes.saturating_sub(data.len() + 2);
    data.extend(std::iter::repeat_n('x', fill));
    data.push_str("\"}");
    data
}
