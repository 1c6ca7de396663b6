//! An input, read from front to back.

use saywhy_codes::Role;

/// What is left of an input.
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    /// The next byte; `None` at the end.
    pub fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// The next byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// The next `n` bytes, or what there is of them.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// The bytes that an input describes, and who reads them. Most are frames whose length and mask are in order.
pub fn wire(input: &[u8]) -> (Vec<u8>, Role) {
    let mut script = Script(input);
    let receiver = if script.byte() & 1 == 0 { Role::Server } else { Role::Client };
    let mut wire = Vec::new();
    while let Some(op) = script.next() {
        let n = usize::from(script.byte());
        if op % 8 == 0 {
            wire.extend_from_slice(script.bytes(n));
        } else {
            let first = script.byte();
            frame(first, script.bytes(n), (receiver == Role::Server).then_some(key(op)), &mut wire);
        }
    }
    (wire, receiver)
}

/// The mask is of the input's choice too; 0 leaves the payload readable for the fuzzer.
pub fn key(op: u8) -> [u8; 4] {
    [op & 0xE0, op.wrapping_mul(3) & 0xE0, 0, op & 0xC0]
}

/// Appends a frame whose first byte may be anything and whose rest is in order.
pub fn frame(first: u8, payload: &[u8], key: Option<[u8; 4]>, wire: &mut Vec<u8>) {
    wire.push(first);
    let mask = if key.is_some() { 0x80 } else { 0 };
    match payload.len() {
        len @ 0..126 => wire.push(mask | len as u8),
        len @ 126..65_536 => wire.extend([mask | 126, (len >> 8) as u8, len as u8]),
        len => {
            wire.push(mask | 127);
            wire.extend((len as u64).to_be_bytes());
        }
    }
    wire.extend(key.into_iter().flatten());
    let start = wire.len();
    wire.extend_from_slice(payload);
    if let Some(key) = key.filter(|key| *key != [0; 4]) {
        for (i, byte) in wire[start..].iter_mut().enumerate() {
            *byte ^= key[i % 4];
        }
    }
}
