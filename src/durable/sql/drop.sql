DROP FUNCTION {add}, {ack}, {take}, {read}, {rotate}, {is_behind};
DROP VIEW {positions};
DROP TABLE {log}, {acks}, {cursors}, {settings};
DROP SEQUENCE {log_slot}, {ack_slot};
DROP FUNCTION IF EXISTS {notify};
