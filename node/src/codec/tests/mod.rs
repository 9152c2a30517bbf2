//! Both formats together: examples that are written down, and properties.

mod client;
mod document;
mod examples;
mod golden;
mod hostile;
mod properties;
