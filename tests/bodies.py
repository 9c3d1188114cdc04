"""Who may not receive, and by which reason: the law's own cases, and others that somebody might try."""

REFUSED_BY_LAW = [
    ("Texas Department of Public Safety", "state_agency", "US-TX", "other-state"),
    ("Honolulu Police Department", "city_agency", "US-HI", "other-state"),
    ("U.S. Customs and Border Protection", "federal_agency", "US", "federal"),
    ("CBP", "federal_agency", "US", "federal"),
    ("U.S. Immigration and Customs Enforcement", "federal_agency", "US", "federal"),
    ("Missouri Police Chiefs Association", "association", "US-MO", "private"),
    ("MPCA", "city_agency", "US-CA", "initials"),
]
"""Legal name, kind, jurisdiction, reason (Civil Code 1798.90.5(f))."""

REFUSED = [
    *REFUSED_BY_LAW,
    ("Immigration and Customs Enforcement", "state_agency", "US-CA", "federal"),
    ("Acme Plate Data Company", "vendor", "US-CA", "private"),
    ("Acme Plate Data Company", "city_agency", "US-CA", "private"),
    ("Policia Municipal de Tijuana", "city_agency", "MX-BCN", "foreign"),
    ("CaIifornia Highway Patrol", "state_agency", "US-CA", "homograph"),
    ("California Tribal Police", "tribal", "US-CA", "other-kind"),
]
