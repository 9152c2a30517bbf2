//! What is printed: for people, or as JSON.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    fault::{Exit, Fault},
    json,
};

/// Standard output, in one of the two ways.
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Output {
        Output { json }
    }

    /// One line, of which only the wanted form is made.
    pub fn line<T: Serialize>(&self, text: impl FnOnce() -> String, value: impl FnOnce() -> T) -> Result<(), Fault> {
        let line = if self.json { json::line(&value())? } else { text() };
        self.raw(format!("{line}\n").as_bytes())
    }

    /// A line that only people are told.
    pub fn note(&self, text: impl FnOnce() -> String) -> Result<(), Fault> {
        if self.json { Ok(()) } else { self.raw(format!("{}\n", text()).as_bytes()) }
    }

    /// JSON in both ways: easy to read for people, on one line for programs.
    pub fn value(&self, value: &Value) -> Result<(), Fault> {
        self.line(|| format!("{value:#}"), || value)
    }

    /// Bytes as they are.
    pub fn raw(&self, bytes: &[u8]) -> Result<(), Fault> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Fault::unread()),
            Err(error) => Err(Fault::usage(format!("standard output: {error}"))),
        }
    }

    /// Says on standard error why it failed; gives the exit code.
    pub fn fail(&self, fault: &Fault) -> ExitCode {
        if fault.exit != Exit::Unread {
            let text = fault.to_string();
            let error = fault.failure.as_ref().map_or_else(|| json!({"message": text}), json::failure);
            let line = if self.json { json!({"error": error}).to_string() } else { format!("error: {text}") };
            // Where nobody hears of it, the exit code still tells.
            drop(writeln!(io::stderr(), "{line}"));
        }
        ExitCode::from(fault.exit as u8)
    }
}
