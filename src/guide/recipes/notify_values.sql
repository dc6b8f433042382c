-- Several notifications with bound parameters: one statement, one commit. The case of a channel is kept.
SELECT pg_notify(channel, json_build_object('payload', payload)::text)
FROM (VALUES ('chan0', $1::bigint), ('Chan1', $2::bigint), ('CHAN2', $3::bigint)) AS notifies (channel, payload)
