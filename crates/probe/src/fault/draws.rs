//! Chance, which is the same again for the same seed.

use crate::fault::Side;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt as _, SeedableRng as _};

/// What one fault draws for one direction of one connection. Nobody else draws from it, so that the order in which other
/// things happen changes nothing.
pub(crate) struct Draws {
    random: ChaCha8Rng,
    taken: Vec<f64>,
}

impl Draws {
    pub(crate) fn new(seed: u64, connection: u64, fault: u64, to: Side) -> Self {
        let mut all = [0; 32];
        let words = [seed, connection, fault, to as u64];
        for (part, word) in all.chunks_exact_mut(8).zip(words) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        Self { random: ChaCha8Rng::from_seed(all), taken: Vec::new() }
    }

    /// The next number, from 0 up to 1.
    pub(crate) fn next(&mut self) -> f64 {
        let draw = self.random.random::<f64>();
        self.taken.push(draw);
        draw
    }

    /// What was drawn since this was last asked: what a decision came from.
    pub(crate) fn take(&mut self) -> Vec<f64> {
        std::mem::take(&mut self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three(seed: u64, connection: u64, fault: u64, to: Side) -> Vec<f64> {
        let mut draws = Draws::new(seed, connection, fault, to);
        for _ in 0..3 {
            draws.next();
        }
        draws.take()
    }

    #[test]
    fn a_seed_reproduces_and_everything_else_differs() {
        let first = three(7, 1, 0, Side::Client);
        assert_eq!(first, three(7, 1, 0, Side::Client));
        for other in [
            three(8, 1, 0, Side::Client),
            three(7, 2, 0, Side::Client),
            three(7, 1, 1, Side::Client),
            three(7, 1, 0, Side::Server),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn what_a_seed_means_does_not_change() {
        let percent: Vec<_> = three(7, 1, 0, Side::Client).iter().map(|draw| (draw * 100.0) as u32).collect();
        assert_eq!(percent, [86, 5, 0]);
    }
}
