-- What this login may see. An empty search_path makes PostgreSQL print every name with its
-- schema; jit would take longer to compile the union of catalogs than to run it.
select
    set_config('search_path', '', true) as path,
    set_config('jit', 'off', true) as jit,
    set_config('intervalstyle', 'postgres', true) as intervals,
    current_user::text as login,
    current_database()::text as database,
    current_setting('server_version') as version,
    pg_has_role('pg_read_all_settings', 'usage') as settings,
    has_table_privilege('pg_catalog.pg_hba_file_rules', 'select')
    and has_function_privilege('pg_catalog.pg_hba_file_rules()', 'execute') as connection_rules,
    coalesce(
        has_table_privilege(to_regclass('public.account_settings'), 'select')
        and has_table_privilege(to_regclass('public.trail_retention'), 'select')
        and (
            select has_column_privilege(a.attrelid, a.attnum, 'select')
            from pg_catalog.pg_attribute as a
            where a.attrelid = to_regclass('public.context_key') and a.attname = 'enforced'
        ), false
    ) as setting_rows,
    coalesce(
        has_table_privilege(to_regclass('public.security_logs'), 'select'), false
    ) as trail,
    now()::text as read_at;
