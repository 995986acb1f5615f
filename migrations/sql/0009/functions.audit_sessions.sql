-- Made from schema/models.py by `pandom docs`.
-- What the trail keeps of sessions.
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

create or replace function public.audit_sessions()
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
    origin constant text := '{"table": "sessions", "session_user": '
        || to_json(session_user)::text;
begin
    if tg_table_name <> 'sessions' or tg_table_schema <> 'public' then
        raise exception 'this trigger function serves public.sessions only';
    end if;

    if tg_op = 'UPDATE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (
            origin || ', "subject": ' || '"' || coalesce(n.user_uuid, o.user_uuid) || '"'
            || ', "id": ' || coalesce(n.id, o.id)
            || ', "changed": {' || concat_ws(',',
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

    elsif tg_op = 'INSERT' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (origin || '}')::jsonb || jsonb_build_object(
            'subject', n.user_uuid,
            'new', jsonb_build_object(
                'id', n.id,
                'expires_at', n.expires_at
            )
        ), address, agent
        from new_rows as n;

    elsif tg_op = 'DELETE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (origin || '}')::jsonb || jsonb_build_object(
            'subject', o.user_uuid,
            'old', jsonb_build_object(
                'id', o.id,
                'expires_at', o.expires_at
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

comment on function public.audit_sessions() is
'Trigger: one event for each changed row, changed columns only, redacted as declared.';

-- Who makes the triggers needs it, in the revision that makes the function, too.
grant execute on function public.audit_sessions() to pandom_owner;
