"""From the world into Kafka, and from Kafka into the master dataset on HDFS."""
