//! A signed word that a wave of a rollout may begin.
//!
//! Signed are the plan's digest and the wave's name, each with a line end. So an approval counts
//! for just the hosts, order and limits that were looked at.

use firmcast::keys::{ManagerPublicKey, ManagerSecretKey, PublicKey as _, SecretKey as _};

/// Whose word counts, for a wave of a rollout.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Digest of the plan.
    pub plan_digest: &'a str,
    /// The wave's name.
    pub wave: &'a str,
    /// Who created the rollout: somebody else has to approve.
    pub created_by: &'a str,
}

/// Somebody's answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Fingerprint of the key that signed.
    pub key: &'a str,
    /// The signature, 128 hexadecimal digits.
    pub signature: &'a str,
    /// Who it was.
    pub by: &'a str,
}

impl Question<'_> {
    fn message(&self) -> Vec<u8> {
        format!("{}\n{}\n", self.plan_digest, self.wave).into_bytes()
    }

    /// Returns the fingerprint of `secret` and its signature, as an [`Answer`] has them.
    pub fn sign(&self, secret: &ManagerSecretKey) -> (String, String) {
        let signature = secret.sign_approval(&self.message());
        let digits = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        (secret.public().fingerprint().to_string(), digits)
    }

    /// Whether `answer` is the word of one of the `approvers`, and of somebody else than who
    /// created the rollout.
    pub fn is_answered(&self, answer: &Answer<'_>, approvers: &[ManagerPublicKey]) -> bool {
        let Some(signature) = bytes(answer.signature) else { return false };
        answer.by != self.created_by
            && approvers.iter().any(|approver| {
                approver.fingerprint().to_string() == answer.key
                    && approver.verify_approval(&self.message(), &signature)
            })
    }
}

fn bytes(digits: &str) -> Option<[u8; 64]> {
    let mut bytes = [0; 64];
    if digits.len() != 2 * bytes.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use firmcast::keys::ManagerSecretKey;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    use super::*;

    #[test]
    fn only_an_approver_s_word_for_this_plan_and_wave_counts() {
        let secret = |seed| ManagerSecretKey::generate(&mut ChaCha20Rng::from_seed([seed; 32]));
        let (anna, ben) = (secret(1), secret(2));
        let approvers = [anna.public()];
        let question = Question { plan_digest: "00ff", wave: "rest", created_by: "carl" };
        let (key, signature) = question.sign(&anna);
        let answer = Answer { key: &key, signature: &signature, by: "anna" };
        assert!(question.is_answered(&answer, &approvers));
        assert!(!question.is_answered(&answer, &[ben.public()]), "nobody asked her");
        assert!(!question.is_answered(&Answer { by: "carl", ..answer }, &approvers), "his own");
        for other in
            [Question { plan_digest: "00fe", ..question }, Question { wave: "tenth", ..question }]
        {
            assert!(!other.is_answered(&answer, &approvers), "{other:?}");
        }
        let (bens, of_ben) = question.sign(&ben);
        for (key, signature) in [(&bens, &of_ben), (&key, &of_ben), (&key, &"é".repeat(64))] {
            assert!(!question.is_answered(&Answer { key, signature, by: "ben" }, &approvers));
        }
    }
}
