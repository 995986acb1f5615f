-- Made from schema/models.py by `pandom docs`.
-- A truncate of sessions enters the trail as critical.
set local role pandom_owner;

create or replace trigger audit_sessions_trigger_truncate
after truncate on public.sessions
for each statement execute function public.audit_sessions();

comment on trigger audit_sessions_trigger_truncate on public.sessions is
'A truncate of sessions enters the trail as critical.';
