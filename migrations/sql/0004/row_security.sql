-- Row security, enabled and forced: their owners are under it, too (P2).
set local role pandom_owner;
alter table public.auth_users enable row level security;
alter table public.auth_users force row level security;
alter table public.user_profiles enable row level security;
alter table public.user_profiles force row level security;
alter table public.sessions enable row level security;
alter table public.sessions force row level security;

set local role pandom_trail;
alter table public.audit_logs enable row level security;
alter table public.audit_logs force row level security;
alter table public.security_logs enable row level security;
alter table public.security_logs force row level security;
