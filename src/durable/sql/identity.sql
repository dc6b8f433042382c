SELECT cursors.system_identifier = control.system_identifier
FROM {cursors} AS cursors CROSS JOIN pg_control_system() AS control
WHERE cursors.name = $1
