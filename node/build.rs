//! Migrations are compiled in, and a new one is a change like any other.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
