//! The console is built by npm and embedded into the hub. A checkout in which it was not built
//! yet has an empty one, and the hub says so at `/`.

fn main() -> std::io::Result<()> {
    let dist = std::path::Path::new("../web/console/dist");
    std::fs::create_dir_all(dist)?;
    println!("cargo::rerun-if-changed={}", dist.display());
    Ok(())
}
