"""Events over HTTP into Kafka: a request's body goes in, and what Kafka acknowledged comes out as 202."""
