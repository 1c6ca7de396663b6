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
        self.rooms.iter().any(|(pattern, permissions)| {
            let fits = match pattern.strip_suffix('*') {
                Some(prefix) => room.starts_with(prefix),
                None => room == pattern,
            };
            fits && permissions.contains(&permission)
        })
    }
}
