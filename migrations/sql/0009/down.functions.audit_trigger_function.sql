set local role pandom_trail;

create or replace function public.audit_trigger_function()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    actor constant uuid := public.current_user_id();
    address constant inet := case
        when pg_input_is_valid(current_setting('app.client_ip', true), 'inet')
            then current_setting('app.client_ip', true)::inet
    end;
    agent constant text := nullif(left(current_setting('app.user_agent', true), 512), '');
    origin constant jsonb := jsonb_build_object(
        'table', tg_table_name, 'session_user', session_user
    );
    -- The beginning of an UPDATE's details as text, up to the subject.
    opening constant text := left(origin::text, -1) || ', "subject": "';
begin
    if tg_table_schema <> 'public' then
        raise exception 'the audit trigger serves tables of schema public only';
    end if;

    if tg_op = 'TRUNCATE' then
        insert into public.audit_logs
        (user_uuid, event_type, details, ip_address, user_agent, severity)
        values (actor, tg_op, origin, address, agent, 'critical');

    elsif tg_table_name = 'auth_users' and tg_op = 'INSERT' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', n.uuid,
            'new', jsonb_build_object(
                'email', n.email,
                'role', n.role,
                'is_active', n.is_active,
                'is_verified', n.is_verified,
                'is_configured', n.is_configured,
                'profile_uuid', n.profile_uuid
            )
        ), address, agent
        from new_rows as n;

    elsif tg_table_name = 'auth_users' and tg_op = 'UPDATE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (
            opening || coalesce(n.uuid, o.uuid) || '", "changed": {' || concat_ws(',',
                case when o.uuid is distinct from n.uuid
                    then '"uuid":'
                        || json_build_array(o.uuid, n.uuid)::text end,
                case when o.email is distinct from n.email
                    then '"email":'
                        || json_build_array(o.email, n.email)::text end,
                case when o.password_hash is distinct from n.password_hash
                    or o.password_hash_encrypted is distinct from n.password_hash_encrypted
                    then '"password_hash":"redacted"' end,
                case when o.role is distinct from n.role
                    then '"role":'
                        || json_build_array(o.role, n.role)::text end,
                case when o.is_active is distinct from n.is_active
                    then '"is_active":'
                        || json_build_array(o.is_active, n.is_active)::text end,
                case when o.is_verified is distinct from n.is_verified
                    then '"is_verified":'
                        || json_build_array(o.is_verified, n.is_verified)::text end,
                case when o.is_configured is distinct from n.is_configured
                    then '"is_configured":'
                        || json_build_array(o.is_configured, n.is_configured)::text end,
                case when o.verification_token is distinct from n.verification_token
                    then '"verification_token":"redacted"' end,
                case when o.reset_token is distinct from n.reset_token
                    then '"reset_token":"redacted"' end,
                case when o.refresh_token is distinct from n.refresh_token
                    then '"refresh_token":"redacted"' end,
                case when o.last_login_at is distinct from n.last_login_at
                    then '"last_login_at":'
                        || json_build_array(o.last_login_at, n.last_login_at)::text end,
                case when o.profile_uuid is distinct from n.profile_uuid
                    then '"profile_uuid":'
                        || json_build_array(o.profile_uuid, n.profile_uuid)::text end
            ) || '}}'
        )::jsonb, address, agent
        from new_rows as n
        full outer join old_rows as o on n.uuid = o.uuid;

    elsif tg_table_name = 'auth_users' and tg_op = 'DELETE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', o.uuid,
            'old', jsonb_build_object(
                'email', o.email, 'role', o.role, 'profile_uuid', o.profile_uuid
            )
        ), address, agent
        from old_rows as o;

    elsif tg_table_name = 'user_profiles' and tg_op = 'INSERT' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', n.uuid,
            'new', jsonb_build_object(
                'tags', case when pg_column_size(n.tags) <= 500 then to_jsonb(n.tags)
                    else public.event_value(array_to_json(n.tags)::text)::jsonb end,
                'metadata', case when pg_column_size(n.metadata) <= 500 then n.metadata
                    else public.event_value(n.metadata::text)::jsonb end
            )
        ), address, agent
        from new_rows as n;

    elsif tg_table_name = 'user_profiles' and tg_op = 'UPDATE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (
            opening || coalesce(n.uuid, o.uuid) || '", "changed": {' || concat_ws(',',
                case when o.uuid is distinct from n.uuid
                    then '"uuid":'
                        || json_build_array(o.uuid, n.uuid)::text end,
                case when o.tags is distinct from n.tags
                    then '"tags":' || case
                        when greatest(pg_column_size(o.tags), pg_column_size(n.tags)) <= 500
                            then json_build_array(o.tags, n.tags)::text
                        else '[' || public.event_value(array_to_json(o.tags)::text) || ', '
                            || public.event_value(array_to_json(n.tags)::text) || ']'
                    end end,
                case when o.metadata is distinct from n.metadata
                    then '"metadata":' || case
                        when greatest(pg_column_size(o.metadata), pg_column_size(n.metadata)) <= 500
                            then json_build_array(o.metadata, n.metadata)::text
                        else '[' || public.event_value(o.metadata::text) || ', '
                            || public.event_value(n.metadata::text) || ']'
                    end end
            ) || '}}'
        )::jsonb, address, agent
        from new_rows as n
        full outer join old_rows as o on n.uuid = o.uuid;

    elsif tg_table_name = 'user_profiles' and tg_op = 'DELETE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', o.uuid,
            'old', jsonb_build_object(
                'tags', case when pg_column_size(o.tags) <= 500 then to_jsonb(o.tags)
                    else public.event_value(array_to_json(o.tags)::text)::jsonb end,
                'metadata', case when pg_column_size(o.metadata) <= 500 then o.metadata
                    else public.event_value(o.metadata::text)::jsonb end
            )
        ), address, agent
        from old_rows as o;

    elsif tg_table_name = 'sessions' and tg_op = 'INSERT' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', n.user_uuid,
            'new', jsonb_build_object('id', n.id, 'expires_at', n.expires_at)
        ), address, agent
        from new_rows as n;

    elsif tg_table_name = 'sessions' and tg_op = 'UPDATE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (
            opening || coalesce(n.user_uuid, o.user_uuid) || '", "id": '
            || coalesce(n.id, o.id) || ', "changed": {' || concat_ws(',',
                case when o.id is distinct from n.id
                    then '"id":'
                        || json_build_array(o.id, n.id)::text end,
                case when o.user_uuid is distinct from n.user_uuid
                    then '"user_uuid":'
                        || json_build_array(o.user_uuid, n.user_uuid)::text end,
                case when o.token is distinct from n.token
                    then '"token":"redacted"' end,
                case when o.expires_at is distinct from n.expires_at
                    then '"expires_at":'
                        || json_build_array(o.expires_at, n.expires_at)::text end
            ) || '}}'
        )::jsonb, address, agent
        from new_rows as n
        full outer join old_rows as o on n.id = o.id;

    elsif tg_table_name = 'sessions' and tg_op = 'DELETE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', o.user_uuid,
            'old', jsonb_build_object('id', o.id, 'expires_at', o.expires_at)
        ), address, agent
        from old_rows as o;

    else
        raise exception 'the audit trigger does not know table %', tg_table_name;
    end if;
    return null;
end
$$;

comment on function public.audit_trigger_function() is
'Trigger: one event for each changed row, changed columns only, secrets redacted. P4';

grant execute on function public.audit_trigger_function() to pandom_owner;
