//! Prints the JSON Schema of the configuration, for `scaffold build`; no byte of it is in the module.

#[allow(dead_code)] // only its types are of interest here
#[path = "../src/config.rs"]
mod config;

fn main() -> Result<(), serde_json::Error> {
    let schema = schemars::schema_for!(config::Config);
    println!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(())
}
