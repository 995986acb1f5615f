-- What this login may see; what it may not is named as unknown, never counted as clean.
select
    current_user::text as login,
    current_database()::text as database,
    current_setting('server_version') as version,
    pg_has_role('pg_read_all_settings', 'usage') as settings,
    has_table_privilege('pg_catalog.pg_hba_file_rules', 'select')
    and has_function_privilege('pg_catalog.pg_hba_file_rules()', 'execute') as connection_rules,
    now()::text as read_at;
