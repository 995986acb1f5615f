-- Made from schema/models.py by `pandom docs`.
-- What the trail keeps of user_profiles.
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

create or replace function public.audit_user_profiles()
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
    origin constant text := '{"table": "user_profiles", "session_user": '
        || to_json(session_user)::text;
begin
    if tg_table_name <> 'user_profiles' or tg_table_schema <> 'public' then
        raise exception 'this trigger function serves public.user_profiles only';
    end if;

    if tg_op = 'UPDATE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (
            origin || ', "subject": ' || '"' || coalesce(n.uuid, o.uuid) || '"'
            || ', "changed": {' || concat_ws(',',
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

    elsif tg_op = 'INSERT' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (origin || '}')::jsonb || jsonb_build_object(
            'subject', n.uuid,
            'new', jsonb_build_object(
                'tags', case when pg_column_size(n.tags) <= 500 then to_jsonb(n.tags)
                    else public.event_value(array_to_json(n.tags)::text)::jsonb end,
                'metadata', case when pg_column_size(n.metadata) <= 500 then to_jsonb(n.metadata)
                    else public.event_value(n.metadata::text)::jsonb end
            )
        ), address, agent
        from new_rows as n;

    elsif tg_op = 'DELETE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (origin || '}')::jsonb || jsonb_build_object(
            'subject', o.uuid,
            'old', jsonb_build_object(
                'tags', case when pg_column_size(o.tags) <= 500 then to_jsonb(o.tags)
                    else public.event_value(array_to_json(o.tags)::text)::jsonb end,
                'metadata', case when pg_column_size(o.metadata) <= 500 then to_jsonb(o.metadata)
                    else public.event_value(o.metadata::text)::jsonb end
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

comment on function public.audit_user_profiles() is
'Trigger: one event for each changed row, changed columns only, redacted as declared.';

-- Who makes the triggers needs it, in the revision that makes the function, too.
grant execute on function public.audit_user_profiles() to pandom_owner;
