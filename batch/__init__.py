"""HDFS to Spark to batch views: exact rows recomputed from the master dataset, published at once or not at all."""
