-- Made from schema/models.py by `pandom docs`.
-- Every delete on sessions enters the trail.
set local role pandom_owner;

create or replace trigger audit_sessions_trigger_delete
after delete on public.sessions
referencing old table as old_rows
for each statement execute function public.audit_sessions();

comment on trigger audit_sessions_trigger_delete on public.sessions is
'Every delete on sessions enters the trail.';
