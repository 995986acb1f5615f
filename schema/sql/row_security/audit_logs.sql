-- Made from schema/models.py by `pandom docs`.
-- Forced, too: whoever becomes the owner is under it.
set local role pandom_trail;

alter table public.audit_logs enable row level security;
alter table public.audit_logs force row level security;
