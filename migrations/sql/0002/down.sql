-- Takes the trail away; its rows wait in schema trail_archive (M3).
set local role pandom_trail;

create table trail_archive.audit_logs (like public.audit_logs);
insert into trail_archive.audit_logs select * from public.audit_logs;
create table trail_archive.security_logs (like public.security_logs);
insert into trail_archive.security_logs select * from public.security_logs;

drop table public.trail_retention;
drop table public.security_logs;
drop table public.audit_logs;
