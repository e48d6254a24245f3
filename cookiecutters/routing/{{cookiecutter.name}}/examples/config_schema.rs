//! Prints the JSON Schema of the configuration for `scaffold build`. It isn't part of the module.

#[allow(dead_code)] // only the types are used here
#[path = "../src/config.rs"]
mod config;

fn main() -> Result<(), serde_json::Error> {
    let schema = schemars::schema_for!(config::Config);
    println!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(())
}
