//! gateway-worker
