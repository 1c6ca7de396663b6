//! The files in `catalogue/` are what the table says, no more and no less.

use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn the_generated_files_are_not_stale() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../catalogue");
    let mut expected = BTreeSet::new();
    for (name, contents) in saywhy_codes::pages::files() {
        let there = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(there == contents, "catalogue/{name} is stale; hint: run `just generate`");
        expected.insert(name);
    }
    let there: BTreeSet<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, expected, "catalogue/ has files that belong to no row");
}

#[test]
fn the_json_is_json_and_has_every_row() {
    let json: serde_json::Value =
        serde_json::from_str(&saywhy_codes::pages::json(&saywhy_codes::Catalogue::builtin())).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), saywhy_codes::catalogue::BUILTIN.len());
    assert_eq!(json["rows"][3]["name"], "unauthorized");
    assert_eq!(json["rows"][3]["close"]["iana"], 3000);
    assert_eq!(json["close_codes"].as_array().unwrap().len(), saywhy_codes::registry().len());
}
