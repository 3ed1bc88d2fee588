//! Password hashing with Argon2id. The memory is allocated once and reused.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};

/// Hashes passwords, one at a time.
///
/// Each hash needs 19 MiB of memory. If every login thread allocated and freed it, the memory would
/// remain in that thread's allocator arena (measured: 380 MB resident after a burst of logins). So
/// it is allocated only once.
#[derive(Default)]
pub(super) struct Hasher {
    memory: Vec<Block>,
}

type Reason = String;

impl Hasher {
    /// Hashes a new password with a random salt. Returns a PHC string.
    pub(super) fn hash(&mut self, password: &str) -> Result<String, Reason> {
        let (algorithm, version, params) = Default::default();
        let salt = Salt::generate();
        let hash = self.compute(algorithm, version, &params, &salt, password)?;
        let hash = PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: ParamsString::try_from(&params).map_err(|error| error.to_string())?,
            salt: Some(salt),
            hash: Some(hash),
        };
        Ok(hash.to_string())
    }

    /// Returns whether `password` matches `hash`. Returns `false` if `hash` is invalid.
    pub(super) fn verify(&mut self, hash: &str, password: &str) -> bool {
        self.recompute(hash, password).unwrap_or(false)
    }

    fn recompute(&mut self, hash: &str, password: &str) -> Option<bool> {
        let hash = PasswordHash::new(hash).ok()?;
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let version = Version::try_from(hash.version?).ok()?;
        let params = Params::try_from(&hash).ok()?;
        let salt = hash.salt?;
        let again = self.compute(algorithm, version, &params, &salt, password);
        // This comparison takes constant time.
        Some(again.ok()? == hash.hash?)
    }

    fn compute(
        &mut self,
        algorithm: Algorithm,
        version: Version,
        params: &Params,
        salt: &Salt,
        password: &str,
    ) -> Result<Output, Reason> {
        let mut out = [0; Output::MAX_LENGTH];
        let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let out = out.get_mut(..length).ok_or("the hash is too long")?;
        let blocks = params.block_count();
        if self.memory.len() < blocks {
            self.memory.resize_with(blocks, Block::new);
        }
        let argon = Argon2::new(algorithm, version, params.clone());
        argon
            .hash_password_into_with_memory(
                password.as_bytes(),
                salt,
                out,
                &mut self.memory[..blocks],
            )
            .map_err(|error| error.to_string())?;
        Output::new(out).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};

    #[test]
    fn hashes_agree_with_the_argon2_crate() {
        let mut hasher = Hasher::default();
        let ours = hasher.hash("secret").unwrap();
        assert_ne!(ours, hasher.hash("secret").unwrap(), "the salts differ");
        assert!(hasher.verify(&ours, "secret") && !hasher.verify(&ours, "Secret"));
        let parsed = PasswordHash::new(&ours).unwrap();
        assert!(
            Argon2::default()
                .verify_password(b"secret", &parsed)
                .is_ok()
        );
        let theirs = Argon2::default().hash_password(b"secret").unwrap();
        assert!(hasher.verify(&theirs.to_string(), "secret"));
        let small = Params::new(64, 1, 1, Some(16)).unwrap();
        let small = Argon2::new(Algorithm::Argon2i, Version::V0x13, small);
        let other = small.hash_password(b"secret").unwrap().to_string();
        assert!(hasher.verify(&other, "secret") && !hasher.verify(&other, ""));
        assert!(!hasher.verify("$argon2id$", "secret"));
    }
}
