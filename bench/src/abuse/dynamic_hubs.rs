//! `dynamic-hubs`: a hundred thousand names of hubs on a node that makes those that are named.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{
    Scenario,
    metrics::Metrics,
    verdict::{Check, Tally},
};
use crate::server::Server;

pub const SCENARIO: Scenario = Scenario {
    name: "dynamic-hubs",
    // Hubs that were made stay, in the database and compiled.
    growth_max: HUBS_MAX * (8 << 10) + (16 << 20),
    kept_max: 0,
    run,
    judge,
};

const NAMES: u64 = 100_000;
const HUBS_MAX: u64 = 1_000;
const CONNECTIONS: u64 = 8;
/// Requests that one connection has under way.
const PIPELINE: u64 = 50;

fn run(server: &Server) -> Result<Tally> {
    let mut connections = (0..CONNECTIONS).map(|_| connect(server)).collect::<Result<Vec<_>>>()?;
    let mut tally = Tally::default();
    for begin in (0..NAMES).step_by((CONNECTIONS * PIPELINE) as usize) {
        for (connection, first) in connections.iter_mut().zip((begin..).step_by(PIPELINE as usize)) {
            let requests: String = (first..first + PIPELINE).map(request).collect();
            connection.get_mut().write_all(requests.as_bytes())?;
        }
        for connection in &mut connections {
            for _ in 0..PIPELINE {
                note(answer(connection)?, &mut tally);
            }
        }
    }
    Ok(tally)
}

fn connect(server: &Server) -> Result<BufReader<TcpStream>> {
    let tcp = TcpStream::connect(server.address)?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(BufReader::new(tcp))
}

fn request(number: u64) -> String {
    format!("GET /hubs/made-{number}/history?channel=a HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
}

/// The status and the body.
fn answer(connection: &mut BufReader<TcpStream>) -> Result<(u16, String)> {
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).context("the node does not answer")?;
        match line.trim_end().split_once(' ') {
            None if line == "\r\n" => break,
            None => anyhow::bail!("the node has closed the connection"),
            Some(("HTTP/1.1", rest)) => status = rest[..3].parse()?,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length:") => length = value.parse()?,
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok((status, String::from_utf8(body)?))
}

fn note((status, body): (u16, String), tally: &mut Tally) {
    tally.add("asked", 1);
    match status {
        404 if body.contains("\"hub_not_found\"") => tally.add("hubNotFound", 1),
        // It was made, and has no right for somebody unknown.
        401 => tally.add("made", 1),
        _ => tally.add("answeredOtherwise", 1),
    }
}

fn judge(tally: &Tally, metrics: &Metrics) -> Vec<Check> {
    vec![
        Check::at_most("hubs that were made", tally.get("made"), HUBS_MAX),
        Check::at_least("names refused by hub_not_found", tally.get("hubNotFound"), NAMES - HUBS_MAX),
        Check::at_most("hubs that the node has more", metrics.get("hubs"), HUBS_MAX),
        Check::at_least("names that the node refused to make", metrics.get("hubs_not_made_total"), NAMES - HUBS_MAX),
    ]
}
