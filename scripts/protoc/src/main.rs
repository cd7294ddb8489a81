//! Prints the path of the bundled `protoc`, then that of its include folder, a line each.
//! etcd-client compiles protobuf while it is built and looks for both in the environment.

fn main() -> Result<(), protoc_bin_vendored::Error> {
    println!("{}", protoc_bin_vendored::protoc_bin_path()?.display());
    println!("{}", protoc_bin_vendored::include_path()?.display());
    Ok(())
}
