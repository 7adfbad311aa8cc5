//! A pretend API with stated limits, faults and an audit log: for tests, benches and the demo.
