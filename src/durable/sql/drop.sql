DROP FUNCTION {add}, {ack}, {take}, {read}, {rotate}, {is_behind}, {unread}, {is_here};
DROP VIEW {positions};
DROP TABLE {log}, {acks}, {cursors}, {settings};
DROP SEQUENCE {log_slot};
DROP FUNCTION IF EXISTS {notify};
