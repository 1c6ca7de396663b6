//! The bodies of the fuzz targets: functions of bytes that panic where something does not hold.
//!
//! They stand here and not in the targets so that `cargo test` can run them too, without a nightly compiler, over the
//! corpus that the fuzzer has left: `crates/proto/tests/replay.rs` includes this file.

mod close_payload;
mod envelope;
mod inflate;
pub mod peers;
mod script;
mod session;
mod wire;

pub use session::Sabotage;

use saywhy_codes::Role;

/// A target: the name of its folder in `corpus/`, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 6] = [
    ("server_frames", server_frames),
    ("client_frames", client_frames),
    ("close_payload", close_payload),
    ("envelope", envelope),
    ("differential", differential),
    ("inflate", inflate),
];

/// What a client sends to a server's session, and what happens there meanwhile.
pub fn server_frames(input: &[u8]) {
    session::run(input, Role::Server, Sabotage::from_environment());
}

/// What a server sends to a client's session, and what happens there meanwhile.
pub fn client_frames(input: &[u8]) {
    session::run(input, Role::Client, Sabotage::from_environment());
}

/// As [`server_frames`], with a session that breaks a promise.
pub fn sabotaged(input: &[u8], sabotage: Sabotage) {
    session::run(input, Role::Server, sabotage);
}

/// The payload of a Close frame, and the words of one that we write.
pub fn close_payload(input: &[u8]) {
    close_payload::run(input);
}

/// The text of a message.
pub fn envelope(input: &[u8]) {
    envelope::run(input);
}

/// Frames, read by ours and by two others.
pub fn differential(input: &[u8]) {
    let (wire, receiver) = script::wire(input);
    peers::compare(&wire, receiver);
}

/// Compressed messages, inflated by ours and by another.
pub fn inflate(input: &[u8]) {
    inflate::run(input);
}
