//! Paths that the server keeps for itself.

/// One of the server's own paths is `ours`: the others are for something else.
pub(crate) fn is_plain_path(path: Option<&String>, ours: &str) -> bool {
    path.is_none_or(|path| {
        let is_own = path == ours || !is_reserved_path(path);
        path.len() > 1 && path.starts_with('/') && !path.ends_with('/') && is_own
    })
}

/// What such a path is.
pub(crate) const A_PLAIN_PATH: &str = "a path as in /events, without a slash at its end";

/// Whether a path is the server's own. No page and no websocket path of an application is served there, whatever its
/// patterns match. Some of these paths answer 404 today. They are kept free so that later versions can use them.
pub fn is_reserved_path(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics" | "/dashboard")
        || path.starts_with("/api/v1/")
        || path.starts_with("/umbel/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_server_are_reserved_and_their_neighbours_are_not() {
        for path in
            ["/healthz", "/readyz", "/metrics", "/dashboard", "/api/v1/x", "/api/v1/", "/umbel/client.js"]
        {
            assert!(is_reserved_path(path), "{path}");
        }
        for path in ["/", "/ws", "/metricsx", "/metrics/x", "/api/v1", "/api/v2/x", "/umbel", "/x/umbel/y"] {
            assert!(!is_reserved_path(path), "{path}");
        }
    }
}
