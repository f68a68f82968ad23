//! Cursors: where the next page of an answer begins. A cursor names its snapshot and its question,
//! and is signed, so that it is only good for the question that it was given for.

use sha2::{Digest, Sha256};

use crate::access::{hex, is_same};
use crate::question::Request;
use crate::state::SnapshotId;

/// Signs and reads cursors.
pub struct Cursors {
    secret: Vec<u8>,
}

impl std::fmt::Debug for Cursors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursors").finish_non_exhaustive()
    }
}

impl Cursors {
    /// With a secret, or with a new one.
    pub fn new(secret: Option<&str>) -> Cursors {
        let secret = match secret {
            Some(secret) => secret.as_bytes().to_vec(),
            None => rand::random::<[u8; 32]>().to_vec(),
        };
        Cursors { secret }
    }

    /// The cursor of a question's next page.
    pub fn write(&self, snapshot: &SnapshotId, offset: usize, request: &Request, scope: &str) -> String {
        let place = format!("{snapshot}.{offset}");
        let signature = self.sign(&place, request, scope);
        format!("{place}.{signature}")
    }

    /// The snapshot and the offset of a cursor, if it belongs to the question.
    pub fn read(&self, cursor: &str, request: &Request, scope: &str) -> Option<(SnapshotId, usize)> {
        let (place, signature) = cursor.rsplit_once('.')?;
        if !is_same(signature, &self.sign(place, request, scope)) {
            return None;
        }
        let (snapshot, offset) = place.split_once('.')?;
        Some((SnapshotId::parse(snapshot)?, offset.parse().ok()?))
    }

    /// Both ends are hashed with the secret, so that nothing can be added to what was signed.
    fn sign(&self, place: &str, request: &Request, scope: &str) -> String {
        let request = Request { cursor: None, ..request.clone() };
        let question = serde_json::to_string(&request).unwrap_or_default();
        let mut inner = Sha256::new();
        for part in [self.secret.as_slice(), place.as_bytes(), scope.as_bytes(), question.as_bytes()] {
            inner.update((part.len() as u64).to_le_bytes());
            inner.update(part);
        }
        let mut outer = Sha256::new();
        outer.update(&self.secret);
        outer.update(inner.finalize());
        hex(&outer.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_own_question_only() {
        let cursors = Cursors::new(Some("s"));
        let request = Request { metrics: vec!["clicks".into()], ..Request::default() };
        let snapshot = SnapshotId::parse("1-2-3-4-5-6-7").unwrap();
        let cursor = cursors.write(&snapshot, 100, &request, "all");
        let asked = Request { cursor: Some(cursor.clone()), ..request.clone() };
        assert_eq!(cursors.read(&cursor, &asked, "all"), Some((snapshot, 100)));
        assert_eq!(cursors.read(&cursor, &asked, "one"), None);
        let other = Request { limit: Some(5), ..asked.clone() };
        assert_eq!(cursors.read(&cursor, &other, "all"), None);
        let moved = cursor.replacen(".100.", ".101.", 1);
        assert_eq!(cursors.read(&moved, &asked, "all"), None);
        assert_eq!(Cursors::new(Some("t")).read(&cursor, &asked, "all"), None);
        assert_eq!(cursors.read("", &asked, "all"), None);
    }
}
