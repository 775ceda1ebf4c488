//! `umbel-load`: the load generator of Umbel's benchmarks, and the floor program they are compared with.
//!
//! One thread, one edge-triggered epoll set, one shared receive buffer. A frame costs one `recv`, a header parse and a
//! look at both of its ends: nothing is allocated and nothing is inflated, except on a sample of the connections, where
//! every update is parsed by a JSON parser and checked. The result is one JSON object on stdout; progress goes to stderr.
//!
//! The same receiving code serves Umbel, its peers and the floor program, so that its cost is in every figure alike.

mod args;
mod calls;
mod client;
mod clock;
mod comeback;
mod connection;
mod floor;
mod frame;
mod histogram;
mod message;
mod publisher;
mod receive;
mod report;
mod requests;
mod session;
mod socket;
mod stream;
mod verify;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    match run(&command, words) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("umbel-load: {reason}");
            ExitCode::from(2)
        }
    }
}

fn run(command: &str, words: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let mut options = args::Options::parse(words)?;
    match command {
        "fanout" => options.polling = true,
        "idle" => options.publish_rate = 0.0,
        "request" => {
            options.polling = true;
            options.subscribe = false;
            options.in_flight = options.in_flight.max(1);
        }
        "call" => {
            prepare(&options)?;
            println!("{}", calls::run(&options)?);
            return Ok(ExitCode::SUCCESS);
        }
        "resume" => options.let_come_back()?,
        "connect" => options.churn = !options.hold,
        "floor-server" => {
            prepare(&options)?;
            return floor::serve(&options).map(|()| ExitCode::SUCCESS);
        }
        _ => {
            println!("{}", args::HELP);
            let asked = matches!(command, "" | "help" | "--help" | "-h");
            return if asked { Ok(ExitCode::SUCCESS) } else { Err(format!("unknown command {command:?}")) };
        }
    }
    prepare(&options)?;
    let report = client::Client::new(&options)?.run()?;
    let valid = report.is_valid();
    println!("{}", report.to_json(command, &options));
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn prepare(options: &args::Options) -> Result<(), String> {
    socket::raise_descriptor_limit();
    match options.cpu {
        Some(cpu) => socket::pin_to(cpu).map_err(|error| format!("cannot pin to CPU {cpu}: {error}")),
        None => Ok(()),
    }
}
