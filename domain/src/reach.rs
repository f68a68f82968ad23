//! The reach sketch: a theta (bottom-k) sketch of a set of users.
//!
//! It keeps the [`K`] smallest hashes of the users, in ascending order, as eight little-endian
//! bytes each. It is trimmed to k hashes before it is stored and after every union. So its bytes
//! depend only on the set of users, not on order or grouping. Below k users the count is exact.
//! Above, the relative standard error is 1/sqrt(k - 2), 1.6%. (Bar-Yossef et al., "Counting
//! distinct elements in a data stream", 2002, gives the estimator.)

use xxhash_rust::xxh3::xxh3_64;

/// The most hashes that a sketch keeps.
pub const K: usize = 4096;

/// A sketch that is being built or merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    /// Unsorted, possibly with repetitions. At most `2 * K` hashes before it is trimmed.
    pending: Vec<u64>,
    /// Hashes at or above this cannot be among the k smallest any more.
    bound: Option<u64>,
}

/// Bytes that are no sketch: their length is not a multiple of 8, or they are more than k hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a reach sketch: it has {0} bytes, and a sketch has 8 for each of at most {K} hashes")]
pub struct NotASketch(pub usize);

impl Sketch {
    /// Adds a user by its id.
    pub fn insert(&mut self, user_id: &str) {
        self.insert_hash(xxh3_64(user_id.as_bytes()));
    }

    fn insert_hash(&mut self, hash: u64) {
        if self.bound.is_some_and(|bound| hash >= bound) {
            return;
        }
        self.pending.push(hash);
        if self.pending.len() >= 2 * K {
            self.trim();
        }
    }

    /// Adds the users of a stored sketch.
    pub fn union(&mut self, bytes: &[u8]) -> Result<(), NotASketch> {
        for hash in hashes(bytes)? {
            self.insert_hash(hash);
        }
        Ok(())
    }

    fn trim(&mut self) {
        self.pending.sort_unstable();
        self.pending.dedup();
        self.pending.truncate(K);
        if self.pending.len() == K {
            // One above the k-th smallest hash. The k-th itself may come again, and is dropped as a
            // repetition.
            self.bound = self.pending.last().map(|last| last.saturating_add(1));
        }
    }

    /// The stored form.
    pub fn to_bytes(&mut self) -> Vec<u8> {
        self.trim();
        self.pending.iter().flat_map(|hash| hash.to_le_bytes()).collect()
    }

    /// The bytes held in memory.
    pub fn size(&self) -> usize {
        self.pending.capacity() * size_of::<u64>()
    }
}

fn hashes(bytes: &[u8]) -> Result<impl Iterator<Item = u64> + '_, NotASketch> {
    if !bytes.len().is_multiple_of(8) || bytes.len() > 8 * K {
        return Err(NotASketch(bytes.len()));
    }
    Ok(bytes.chunks_exact(8).map(|chunk| {
        let mut hash = [0; 8];
        hash.copy_from_slice(chunk);
        u64::from_le_bytes(hash)
    }))
}

/// The number of users in a stored sketch: exact below k, else (k - 1) x 2^64 / (the k-th smallest
/// hash).
pub fn estimate(bytes: &[u8]) -> Result<u64, NotASketch> {
    let all: Vec<u64> = hashes(bytes)?.collect();
    match all.last() {
        Some(&last) if all.len() == K => Ok(((K - 1) as f64 * 2_f64.powi(64) / last as f64).round() as u64),
        _ => Ok(all.len() as u64),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(users: impl Iterator<Item = usize>) -> Vec<u8> {
        let mut sketch = Sketch::default();
        users.for_each(|user| sketch.insert(&format!("user-{user}")));
        sketch.to_bytes()
    }

    #[test]
    fn exact_below_k_and_close_above() {
        assert_eq!(estimate(&[]).unwrap(), 0);
        assert_eq!(estimate(&sketch((0..K - 1).chain(0..K - 1))).unwrap(), (K - 1) as u64);
        for count in [K, 10_000, 300_000] {
            let found = estimate(&sketch(0..count)).unwrap() as f64;
            assert!((found / count as f64 - 1.0).abs() < 0.05, "{count}: {found}");
        }
    }

    #[test]
    fn refuses_other_bytes() {
        assert_eq!(estimate(&[1, 2, 3]), Err(NotASketch(3)));
    }

    proptest! {
        #[test]
        fn bytes_depend_on_the_set_alone(
            users in prop::collection::vec(0_usize..20_000, 0..12_000),
            cut in 0_usize..12_000,
        ) {
            let cut = cut.min(users.len());
            let whole = sketch(users.iter().copied());
            let mut merged = Sketch::default();
            merged.union(&sketch(users[cut..].iter().rev().copied())).unwrap();
            merged.union(&sketch(users[..cut].iter().copied())).unwrap();
            prop_assert_eq!(merged.to_bytes(), whole);
        }
    }
}
