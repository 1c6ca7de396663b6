//! Writes `catalogue/` anew: `cargo run -p saywhy-codes --example generate`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../catalogue");
    std::fs::create_dir_all(&folder)?;
    for (name, contents) in saywhy_codes::pages::files() {
        std::fs::write(folder.join(name), contents)?;
    }
    Ok(())
}
