//! `upstream PORT`: a scripted upstream that answers as fast as it can.
//! `load …`: a load generator that measures streams event by event, and plain answers.

mod load;
mod upstream;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    let told = match arguments.first().map(String::as_str) {
        Some("upstream") => runtime.block_on(upstream::serve(&arguments[1..])),
        Some("load") => runtime.block_on(load::run(&arguments[1..])),
        _ => Err("expected `upstream PORT` or `load …`; bench/run calls both".into()),
    };
    if let Err(error) = told {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}
