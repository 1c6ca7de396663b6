//! What a token lets its bearer do.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The claims of a token that rooms read.
///
/// ```
/// use saywhy_rooms::{Claims, Permission};
/// let claims = r#"{"sub":"alice","exp":1900000000,"rooms":{"lobby":["join","send"],"team-*":["join"]}}"#;
/// let claims: Claims = serde_json::from_str(claims).unwrap();
/// assert!(claims.permit("team-red", Permission::Join) && !claims.permit("team-red", Permission::Send));
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// Whose it is (RFC 7519 §4.1.2).
    pub sub: String,
    /// When it expires, in seconds since 1970 (RFC 7519 §4.1.4).
    pub exp: u64,
    /// What it permits, by room; a name that ends in `*` stands for all that begin like it.
    #[serde(default)]
    pub rooms: BTreeMap<String, Vec<Permission>>,
}

/// What one may do in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Join it and hear what is said.
    Join,
    /// Say something in it.
    Send,
    /// Read what was said before.
    History,
    /// See who is there.
    Members,
    /// Open and close it.
    Manage,
}

impl Claims {
    /// Whether they permit this.
    pub fn permit(&self, room: &str, permission: Permission) -> bool {
        self.rooms.iter().any(|(pattern, permissions)| fits(pattern, room) && permissions.contains(&permission))
    }
}

fn fits(pattern: &str, room: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => room.starts_with(prefix),
        None => room == pattern,
    }
}

/// What claims permit, in little memory: each session holds it as long as it lives.
pub(crate) struct Grants(Box<[(Box<str>, u8)]>);

impl From<&Claims> for Grants {
    fn from(claims: &Claims) -> Self {
        let bits = |permissions: &[Permission]| permissions.iter().fold(0, |bits, &permission| bits | bit(permission));
        let rooms = claims.rooms.iter();
        Self(rooms.map(|(pattern, permissions)| (pattern.as_str().into(), bits(permissions))).collect())
    }
}

impl Grants {
    pub(crate) fn permit(&self, room: &str, permission: Permission) -> bool {
        self.0.iter().any(|(pattern, bits)| bits & bit(permission) != 0 && fits(pattern, room))
    }
}

fn bit(permission: Permission) -> u8 {
    1 << permission as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_permit_what_the_claims_do() {
        let all = [Permission::Join, Permission::Send, Permission::History, Permission::Members, Permission::Manage];
        let rooms = [("lobby", &all[..2]), ("team-*", &all[2..]), ("*", &all[..1]), ("none", &[])];
        let rooms = rooms.iter().map(|(name, permissions)| ((*name).to_owned(), permissions.to_vec())).collect();
        let claims = Claims { sub: "a".to_owned(), exp: 0, rooms };
        let grants = Grants::from(&claims);
        for room in ["lobby", "team-red", "team-", "none", "other", ""] {
            for permission in all {
                assert_eq!(grants.permit(room, permission), claims.permit(room, permission), "{room} {permission:?}");
            }
        }
    }
}
