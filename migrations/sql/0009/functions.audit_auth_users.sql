-- Made from schema/models.py by `pandom docs`.
-- What the trail keeps of auth_users.
--
-- Runs once per statement on its transition tables: for a thousand rows that costs about
-- half of a trigger per row. The difference is spelt out column by column and put together
-- as text, parsed once: a third of building and stripping an object, and a tenth of walking
-- over jsonb_each. What is redacted never stands there as a value. What takes 500 bytes as
-- it is stored is within the limits however well it was compressed, and costs no call; of
-- larger ones of an older revision size and digest stand there, so that no change is lost
-- because its event would be too large.
--
-- Old and new rows meet in a full join. A row whose key was changed stands on one side
-- only and must not be missed; and a full join cannot become a nested loop: the plan that
-- a session made for one row would take the square of the rows of its next big UPDATE.
set local role pandom_trail;

create or replace function public.audit_auth_users()
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
    -- The beginning of the details as text.
    origin constant text := '{"table": "auth_users", "session_user": '
        || to_json(session_user)::text;
begin
    if tg_table_name <> 'auth_users' or tg_table_schema <> 'public' then
        raise exception 'this trigger function serves public.auth_users only';
    end if;

    if tg_op = 'UPDATE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (
            origin || ', "subject": ' || '"' || coalesce(n.uuid, o.uuid) || '"'
            || ', "changed": {' || concat_ws(',',
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

    elsif tg_op = 'INSERT' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (origin || '}')::jsonb || jsonb_build_object(
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

    elsif tg_op = 'DELETE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (origin || '}')::jsonb || jsonb_build_object(
            'subject', o.uuid,
            'old', jsonb_build_object(
                'email', o.email,
                'role', o.role,
                'profile_uuid', o.profile_uuid
            )
        ), address, agent
        from old_rows as o;

    else
        insert into public.audit_logs
        (user_uuid, event_type, details, ip_address, user_agent, severity)
        values (actor, tg_op, (origin || '}')::jsonb, address, agent, 'critical');
    end if;
    return null;
end
$$;

comment on function public.audit_auth_users() is
'Trigger: one event for each changed row, changed columns only, redacted as declared.';

-- Who makes the triggers needs it, in the revision that makes the function, too.
grant execute on function public.audit_auth_users() to pandom_owner;
