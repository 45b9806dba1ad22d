"""The words that generated deals are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Locale:
    """Where a company sits: how it is called, what it pays in, how it is reached."""

    weight: float
    currency: str
    domain_ending: str
    phone: str
    language: str
    first_names: str
    surnames: str
    cities: str
    industries: str
    # Spellings of the legal form: before the name, glued behind it, behind it after a space.
    legal: tuple[tuple[str, str, str], ...]
    glued: bool = False  # written without spaces
    latin: bool = True


def suffixes(text: str) -> tuple[tuple[str, str, str], ...]:
    """Legal forms that stand behind the name after a space."""
    return tuple(("", "", suffix) for suffix in text.split("|"))


ENGLISH_FIRST = """James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William
Barbara Richard Susan Joseph Jessica Thomas Sarah Christopher Karen Daniel Lisa Matthew Nancy
Anthony Betty Mark Sandra Steven Ashley Andrew Emily Paul Kimberly Joshua Donna Kenneth Michelle
Kevin Carol Brian Amanda George Melissa Timothy Deborah Ronald Stephanie Jason Rebecca Edward
Laura Jeffrey Helen Ryan Sharon Jacob Cynthia Nicholas Amy Priya Wei Fatima Omar Chidi Aisha"""
ENGLISH_SURNAMES = """Smith Johnson Williams Brown Jones Miller Davis Wilson Anderson Taylor Moore
Jackson Martin Thompson White Harris Clark Lewis Robinson Walker Young Allen King Wright Scott
Hill Green Adams Baker Nelson Carter Mitchell Roberts Turner Phillips Campbell Parker Evans
Edwards Collins Stewart Morris Murphy Cook Rogers Morgan Peterson Cooper Reed Bailey Bell Kelly
Howard Ward Cox Richardson Wood Watson Brooks Bennett Gray Hughes Price Sanders Myers Long Ross
Foster Powell Jenkins Perry Russell Sullivan Fisher Henderson Coleman Simmons Patterson Jordan
Reynolds Hamilton Graham Wallace Woods Cole West Owens Gibson Ellis Harrison Marshall Freeman
Webb Tucker Burns Crawford Henry Simpson Porter Hunter Hicks Mason Boyd Kennedy Warren Dixon
Hunt Burke Gordon Shaw Holmes Rice Robertson Hart Armstrong Weaver Chapman Bradley Carpenter
Lawson Fields Knight Elliott Bishop Andrews Fox Perkins Cunningham Sutton Whitfield Ashworth
Blackwood Hargreaves Pemberton Thornton Underwood Winslow Yardley Ogilvie O'Brien O'Connor
McDonald MacLeod Nguyen Patel Singh Khan Okafor Mensah"""
ENGLISH_INDUSTRIES = """Logistics Foods Engineering Manufacturing Consulting Systems Software
Technologies Industries Services Solutions Pharmaceuticals Laboratories Insurance Financial
Capital Energy Utilities Construction Properties Media Communications Networks Electronics
Automotive Aerospace Chemicals Plastics Packaging Textiles Furniture Retail Wholesale
Distribution Transport Shipping Airlines Hotels Hospitality Healthcare Medical Dental Veterinary
Education Publishing Printing Design Marketing Security Robotics Instruments Optics Metals Mining
Timber Farms Dairy Breweries Beverages Management International"""

LOCALES = (
    Locale(
        0.38, "USD", "com", "1", "en", ENGLISH_FIRST, ENGLISH_SURNAMES,
        """Austin Boston Chicago Denver Seattle Portland Atlanta Dallas Houston Phoenix Miami
        Detroit Cleveland Columbus Nashville Memphis Charlotte Raleigh Tampa Orlando Omaha Tulsa
        Sacramento Oakland San_Diego Salt_Lake_City Kansas_City St._Louis New_Orleans Buffalo""",
        ENGLISH_INDUSTRIES,
        suffixes("Inc.|Inc|Incorporated|LLC|L.L.C.|Corp.|Corporation|Co.|Company|Group"),
    ),
    Locale(
        0.13, "GBP", "co.uk", "44", "en", ENGLISH_FIRST, ENGLISH_SURNAMES,
        """London Manchester Birmingham Leeds Glasgow Bristol Liverpool Edinburgh Cardiff Belfast
        Sheffield Nottingham Leicester Newcastle Southampton Reading Oxford Cambridge York Bath""",
        ENGLISH_INDUSTRIES,
        suffixes("Ltd|Ltd.|Limited|PLC|plc|LLP|& Sons Ltd|Group"),
    ),
    Locale(
        0.13, "EUR", "de", "49", "de",
        """Thomas Andreas Stefan Michael Jürgen Sabine Petra Monika Claudia Anja Katrin Lukas Felix
        Jonas Lena Hannah Maximilian Björn Günther Ursula Heike Torsten Sören Mehmet Ayşe""",
        """Müller Schmidt Schneider Fischer Weber Meyer Wagner Becker Schulz Hoffmann Schäfer Koch
        Bauer Richter Klein Wolf Schröder Neumann Schwarz Zimmermann Braun Krüger Hofmann Hartmann
        Lange Schmitt Werner Krause Lehmann Köhler Maier Herrmann König Walter Huber Kaiser Fuchs
        Peters Lang Scholz Möller Weiß Jung Hahn Vogel Friedrich Keller Günther Frank Roth Beck
        Lorenz Baumann Franke Albrecht Schuster Winter Kraus Böhm Schumacher Krämer Vogt Stein
        Jäger Otto Sommer Groß Seidel Heinrich Brandt Haas Graf Dietrich Ziegler Kuhn Engel""",
        """Berlin Hamburg München Köln Frankfurt Stuttgart Düsseldorf Leipzig Dortmund Essen Bremen
        Dresden Hannover Nürnberg Duisburg Bochum Wuppertal Bielefeld Bonn Münster Karlsruhe
        Augsburg Lübeck Würzburg Wien Graz Zürich""",
        """Maschinenbau Logistik Elektrotechnik Software Systeme Anlagenbau Spedition Großhandel
        Handel Bau Immobilien Medizintechnik Pharma Chemie Kunststoffe Verpackung Möbel Textil
        Druck Verlag Medien Werbung Beratung Versicherung Energie Stadtwerke Automobile Werkzeuge
        Metallbau Stahl Optik Feinkost Brauerei Molkerei Gartenbau Sicherheit Gebäudetechnik
        Umwelttechnik Messtechnik Hydraulik""",
        suffixes("GmbH|Gesellschaft mbH|GmbH & Co. KG|GmbH & Co KG|AG|KG|e.K.|UG"),
    ),
    Locale(
        0.09, "EUR", "fr", "33", "fr",
        """Jean Marie Pierre Sophie Michel Nathalie Philippe Isabelle François Hélène Nicolas Céline
        Laurent Aurélie Éric Zoé Thierry Chloé Benoît Amélie Cédric Léa Rémi Élodie""",
        """Martin Bernard Dubois Thomas Robert Richard Petit Durand Leroy Moreau Simon Laurent
        Lefebvre Michel Garcia David Bertrand Roux Vincent Fournier Morel Girard André Lefèvre
        Mercier Dupont Lambert Bonnet François Martinez Legrand Garnier Faure Rousseau Blanc Guérin
        Muller Henry Roussel Nicolas Perrin Morin Mathieu Clément Gauthier Dumont Lopez Fontaine
        Chevalier Robin Masson Sanchez Gérard Nguyen Boyer Denis Lemaire Duval Joly Gautier""",
        """Paris Lyon Marseille Toulouse Nice Nantes Strasbourg Montpellier Bordeaux Lille Rennes
        Reims Saint-Étienne Le_Havre Grenoble Dijon Angers Nîmes Orléans Besançon Genève""",
        """Logistique Transports Agroalimentaire Ingénierie Conseil Informatique Logiciels Énergie
        Construction Bâtiment Immobilier Assurances Pharmaceutique Santé Optique Textile Emballage
        Imprimerie Édition Médias Publicité Distribution Métallurgie Mécanique Électronique
        Automobile Aéronautique Vignobles Cosmétiques Sécurité""",
        suffixes("SARL|S.A.R.L.|SAS|S.A.S.|SA|S.A.|& Fils|Groupe"),
    ),
    Locale(
        0.07, "EUR", "es", "34", "es",
        """José María Antonio Carmen Manuel Ana Francisco Laura Javier Lucía Miguel Marta Ángel
        Elena Raúl Sofía Iñigo Nuria Álvaro Inés""",
        """García Rodríguez González Fernández López Martínez Sánchez Pérez Gómez Martín Jiménez
        Ruiz Hernández Díaz Moreno Muñoz Álvarez Romero Alonso Gutiérrez Navarro Torres Domínguez
        Vázquez Ramos Gil Ramírez Serrano Blanco Molina Morales Suárez Ortega Delgado Castro Ortiz
        Rubio Marín Sanz Núñez Iglesias Medina Garrido Cortés Castillo Santos Lozano Guerrero""",
        """Madrid Barcelona Valencia Sevilla Zaragoza Málaga Murcia Bilbao Córdoba Valladolid Vigo
        Gijón Granada Oviedo Pamplona Almería San_Sebastián Burgos Santander Logroño""",
        """Logística Transportes Alimentación Ingeniería Consultoría Informática Energía
        Construcciones Inmobiliaria Seguros Farmacéutica Sanidad Óptica Textil Embalajes Imprenta
        Editorial Medios Publicidad Distribuciones Metalúrgica Mecánica Electrónica Automoción
        Bodegas Cosmética Seguridad Hostelería""",
        suffixes("S.L.|SL|S.A.|SA|S.L.U.|e Hijos"),
    ),
    Locale(
        0.05, "EUR", "it", "39", "en",
        """Marco Giulia Luca Chiara Andrea Francesca Matteo Elena Alessandro Valentina Davide Nicolò
        Giorgia Simone Paolo Beatrice""",
        """Rossi Russo Ferrari Esposito Bianchi Romano Colombo Ricci Marino Greco Bruno Gallo Conti
        De_Luca Mancini Costa Giordano Rizzo Lombardi Moretti Barbieri Fontana Santoro Mariani
        Rinaldi Caruso Ferrara Galli Martini Leone Longo Gentile Martinelli Vitale Serra Villa
        Fabbri Marchetti Parisi Sala""",
        """Milano Roma Torino Napoli Bologna Firenze Genova Verona Padova Trieste Brescia Parma
        Modena Bari Palermo Cagliari""",
        """Logistica Trasporti Alimentari Ingegneria Consulenza Informatica Energia Costruzioni
        Immobiliare Assicurazioni Farmaceutici Ottica Tessuti Imballaggi Editoria Pubblicità
        Meccanica Elettronica Ceramiche Mobili Vini Moda Calzature""",
        suffixes("S.r.l.|Srl|S.p.A.|SpA|S.n.c.|& Figli"),
    ),
    Locale(
        0.05, "EUR", "nl", "31", "en",
        """Jan Anna Pieter Sanne Willem Emma Daan Lotte Bram Fleur Joost Maaike Sjoerd Anouk""",
        """De_Jong Jansen De_Vries Van_den_Berg Bakker Van_Dijk Visser Smit Meijer De_Boer Mulder
        De_Groot Bos Vos Peters Hendriks Van_Leeuwen Dekker Brouwer De_Wit Dijkstra Smits De_Graaf
        Van_der_Meer Kok Jacobs Vermeulen Schouten Willems Hoekstra Koster Verhoeven Prins""",
        """Amsterdam Rotterdam Utrecht Eindhoven Groningen Tilburg Almere Breda Nijmegen Arnhem
        Haarlem Antwerpen Gent Leuven""",
        """Logistiek Transport Techniek Bouw Vastgoed Verzekeringen Advies Automatisering Energie
        Voeding Groothandel Metaal Kunststoffen Verpakkingen Drukkerij Media Zorg Installaties
        Tuinbouw Bloemen Scheepvaart""",
        suffixes("B.V.|BV|N.V.|NV|& Zonen|Groep"),
    ),
    Locale(
        0.04, "PLN", "pl", "48", "en",
        """Piotr Anna Krzysztof Katarzyna Paweł Małgorzata Łukasz Agnieszka Michał Joanna Grażyna
        Wojciech""",
        """Nowak Kowalski Wiśniewski Wójcik Kowalczyk Kamiński Lewandowski Zieliński Szymański
        Woźniak Dąbrowski Kozłowski Jankowski Mazur Krawczyk Piotrowski Grabowski Pawłowski
        Michalski Król Wieczorek Jabłoński Wróbel Majewski Olszewski Stępień""",
        """Warszawa Kraków Łódź Wrocław Poznań Gdańsk Szczecin Lublin Katowice Białystok Gdynia
        Częstochowa Toruń Rzeszów""",
        """Logistyka Budownictwo Energetyka Informatyka Produkcja Meble Opakowania Transport
        Farmacja Maszyny Narzędzia Stal Elektronika Ubezpieczenia Nieruchomości""",
        suffixes("Sp. z o.o.|sp. z o.o.|S.A.|SA|Sp. j."),
    ),
    Locale(
        0.02, "EUR", "bg", "359", "en",
        """Иван=ivan Мария=maria Георги=georgi Елена=elena Димитър=dimitar Надежда=nadezhda
        Николай=nikolay Десислава=desislava Стефан=stefan Виктория=viktoria""",
        """Иванов=ivanov Петров=petrov Димитров=dimitrov Георгиев=georgiev Николов=nikolov
        Стоянов=stoyanov Тодоров=todorov Илиев=iliev Христов=hristov Колев=kolev Маринов=marinov
        Ангелов=angelov Попов=popov Василев=vasilev Костов=kostov Йорданов=yordanov""",
        """София=sofia Пловдив=plovdiv Варна=varna Бургас=burgas Русе=ruse Плевен=pleven
        Сливен=sliven Добрич=dobrich Шумен=shumen Перник=pernik""",
        """Логистика=logistika Строителство=stroitelstvo Енергия=energia Софтуер=softuer
        Транспорт=transport Храни=hrani Мебели=mebeli Текстил=tekstil Машини=mashini
        Застраховане=zastrahovane Медицина=meditsina Електроника=elektronika""",
        suffixes("ООД|ЕООД|АД|ЕАД"),
        latin=False,
    ),
    Locale(
        0.03, "JPY", "co.jp", "81", "en",
        """太郎=taro 花子=hanako 健太=kenta 美咲=misaki 翔太=shota 陽子=yoko 大輔=daisuke
        直美=naomi""",
        """佐藤=sato 鈴木=suzuki 高橋=takahashi 田中=tanaka 伊藤=ito 渡辺=watanabe 山本=yamamoto
        中村=nakamura 小林=kobayashi 加藤=kato 吉田=yoshida 山田=yamada 佐々木=sasaki 松本=matsumoto
        井上=inoue 木村=kimura 清水=shimizu 山崎=yamazaki 森=mori 池田=ikeda 橋本=hashimoto
        石川=ishikawa 前田=maeda 藤田=fujita""",
        """東京=tokyo 大阪=osaka 名古屋=nagoya 横浜=yokohama 京都=kyoto 神戸=kobe 福岡=fukuoka
        札幌=sapporo 仙台=sendai 広島=hiroshima 千葉=chiba 新潟=niigata""",
        """電機=denki 物流=butsuryu 製作所=seisakusho 工業=kogyo 建設=kensetsu 食品=shokuhin
        製薬=seiyaku 化学=kagaku 商事=shoji 印刷=insatsu 運輸=unyu 精密=seimitsu
        システム=system 不動産=fudosan""",
        (("株式会社", "", ""), ("", "株式会社", ""), ("(株)", "", ""), ("有限会社", "", "")),
        glued=True,
        latin=False,
    ),
    Locale(
        0.01, "CNY", "cn", "86", "en",
        """伟=wei 芳=fang 娜=na 强=qiang 敏=min 静=jing 磊=lei 洋=yang""",
        """王=wang 李=li 张=zhang 刘=liu 陈=chen 杨=yang 黄=huang 赵=zhao 吴=wu 周=zhou 徐=xu
        孙=sun 马=ma 朱=zhu 胡=hu 林=lin""",
        """北京=beijing 上海=shanghai 广州=guangzhou 深圳=shenzhen 杭州=hangzhou 成都=chengdu
        武汉=wuhan 南京=nanjing 西安=xian 苏州=suzhou""",
        """科技=keji 物流=wuliu 电子=dianzi 机械=jixie 食品=shipin 医药=yiyao 化工=huagong
        贸易=maoyi 建筑=jianzhu 能源=nengyuan 包装=baozhuang""",
        (("", "有限公司", ""), ("", "股份有限公司", ""), ("", "有限责任公司", "")),
        glued=True,
        latin=False,
    ),
)  # fmt: skip

ONSETS = """Al Ar Bel Bor Cal Cor Dal Dor El Fen Gal Hal Ing Jor Kal Lum Mar Nor Ol Pel Quan Ral
Sol Tal Ul Val Ver Win Xan Zen Ast Bri Cre Dro Eli Flo Gre Hyd Ion Kry Lyr Mon Neo Opt Pro
Syn""".split()
NUCLEI = """a e i o u ara eva ivo ora una alo edi iva ono ula avi eri ilo omi uri adra etra inta
osta unda""".split()
CODAS = """x n tech soft dyne via nova lex tron ris gen mark plex ware com sys lab core wise
net logic form line port max zen""".split()
ADJECTIVES = """Blue Red Silver Golden Green Northern Southern Eastern Western Bright Clear Rapid
First United Global Royal Grand Prime Summit Coastal Alpine Pacific Atlantic Central
Modern""".split()
NOUNS = """Harbor River Mountain Valley Bridge Forest Lake Stone Oak Maple Eagle Falcon Lion Bear
Anchor Compass Horizon Meridian Crown Shield Castle Tower Gate Garden Field Meadow Orchard Spring
Cedar Willow""".split()

# Product: name, the name in a price list, a short form, list price in US dollars.
PRODUCTS = (
    ("Cloud Backup", "CB-200", "Backup", 1200),
    ("Endpoint Security", "ES-310", "Endpoint Sec", 2400),
    ("Data Warehouse", "DW-900", "DWH", 18000),
    ("CRM Licences", "CRM-50", "CRM Lic", 4800),
    ("ERP Implementation", "ERP-1", "ERP Impl", 60000),
    ("Support Contract", "SUP-12", "Support", 3600),
    ("Maintenance Contract", "MNT-12", "Maint", 2900),
    ("Network Upgrade", "NW-440", "Network", 15000),
    ("Wireless Access Points", "WAP-66", "WLAN APs", 5200),
    ("Video Conferencing", "VC-80", "VidConf", 7500),
    ("Document Management", "DM-75", "DMS", 9600),
    ("Managed Print Services", "MPS-5", "Print Services", 6400),
    ("Payroll Service", "PAY-10", "Payroll", 8400),
    ("Web Shop", "WS-300", "Shop", 22000),
    ("Website Relaunch", "WR-1", "Relaunch", 28000),
    ("Security Audit", "SA-20", "Audit", 12500),
    ("Penetration Test", "PT-20", "Pentest", 9900),
    ("Training Package", "TR-8", "Training", 4000),
    ("Consulting Days", "CD-10", "Consulting", 14000),
    ("Analytics Platform", "AP-700", "Analytics", 24000),
    ("Identity Management", "IM-450", "IAM", 16500),
    ("Mobile Fleet", "MF-25", "Mobiles", 11000),
    ("Storage Array", "ST-8800", "Storage", 45000),
    ("Virtual Desktop", "VD-150", "VDI", 19500),
    ("Call Center Software", "CC-220", "Call Center", 13800),
    ("Fleet Telematics", "FT-90", "Telematics", 7200),
    ("Warehouse Scanners", "SC-45", "Scanners", 8900),
    ("Label Printers", "LP-30", "Printers", 3100),
    ("Point of Sale", "POS-12", "POS", 6900),
    ("Energy Monitoring", "EM-60", "Energy Mon", 10400),
    ("Access Control", "AC-77", "Access", 8700),
    ("Camera System", "CAM-16", "Cameras", 9300),
    ("Quality Management", "QM-40", "QM", 17000),
    ("Production Planning", "PP-500", "Planning", 32000),
    ("Marketing Automation", "MA-35", "Mktg Automation", 15600),
    ("E-Learning Portal", "EL-28", "E-Learning", 5800),
)
EDITIONS = ("", "Basic", "Professional", "Enterprise", "Plus")
EDITION_FACTORS = np.array([1.0, 0.7, 1.5, 2.5, 1.2])
PROJECTS = """Falcon Aurora Titan Phoenix Atlas Orion Mercury Apollo Neptune Everest Denali Sierra
Cascade Horizon Beacon Catalyst Compass Keystone Lighthouse Momentum Northstar Pathfinder Quantum
Redwood Sapphire Summit Tempest Vanguard Zenith Bluebird Evergreen Fusion Gemini Harmony Jupiter
Kestrel Lotus Magellan Nautilus Odyssey Polaris Sequoia Trident Voyager""".split()

LANGUAGES = ("en", "de", "fr", "es")
# Kinds of business, one row per language; the last is the renewal's.
DEAL_TYPES = (
    ("New Business", "Upgrade", "Expansion", "Pilot", "Add-on", "Replacement", "Renewal"),
    ("Neugeschäft", "Upgrade", "Erweiterung", "Pilot", "Zusatz", "Ablösung", "Verlängerung"),
    ("Nouvelle affaire", "Mise à niveau", "Extension", "Pilote", "Complément", "Remplacement",
     "Renouvellement"),
    ("Nuevo negocio", "Mejora", "Ampliación", "Piloto", "Complemento", "Sustitución",
     "Renovación"),
)  # fmt: skip
RENEWAL = 6
FOR = ("for", "für", "pour", "para")
PHASE = ("Phase", "Phase", "Phase", "Fase")

# Stages from first talk to won and lost, for each CRM and language.
STAGES = (
    (
        ("Appointment Scheduled", "Qualified To Buy", "Presentation Scheduled",
         "Decision Maker Bought-In", "Contract Sent", "Closed Won", "Closed Lost"),
        ("Termin vereinbart", "Qualifiziert", "Präsentation geplant", "Entscheider überzeugt",
         "Vertrag verschickt", "Gewonnen", "Verloren"),
        ("Rendez-vous planifié", "Qualifié pour achat", "Présentation planifiée",
         "Décideur convaincu", "Contrat envoyé", "Fermé gagné", "Fermé perdu"),
        ("Cita programada", "Calificado para comprar", "Presentación programada",
         "Decisor convencido", "Contrato enviado", "Cierre ganado", "Cierre perdido"),
    ),
    (
        ("Prospecting", "Qualification", "Needs Analysis", "Proposal/Price Quote",
         "Negotiation/Review", "Closed Won", "Closed Lost"),
        ("Akquise", "Qualifizierung", "Bedarfsanalyse", "Angebot", "Verhandlung",
         "Geschlossen gewonnen", "Geschlossen verloren"),
        ("Prospection", "Qualification", "Analyse des besoins", "Proposition", "Négociation",
         "Gagnée", "Perdue"),
        ("Prospección", "Calificación", "Análisis de necesidades", "Propuesta", "Negociación",
         "Cerrada ganada", "Cerrada perdida"),
    ),
)  # fmt: skip
STAGE_COUNT = len(STAGES[0][0])
SOURCES = ("hubspot", "salesforce")

CURRENCIES = ("USD", "EUR", "GBP", "PLN", "JPY", "CNY")
PER_DOLLAR = np.array([1.0, 0.92, 0.79, 4.0, 150.0, 7.2])

# Openings, origins and details of a description, per language. {p} product, {q} quantity,
# {c} competitor or old system, {n} a person's surname.
NOTES = {
    "en": (
        """Needs {p} for {q} users|Looking for {p}, {q} seats|Wants to replace {c} with {p}
        |Customer asked for a quote on {p}|Interested in {p} for the whole team
        |{q} licences of {p} requested|Budget request for {p} is in|Demo of {p} went well
        |Currently on {c}, unhappy with it, evaluating {p}|Follow-up to the workshop on {p}
        |Tender for {p}, {q} units|{p} rollout planned, starting with {q} users""",
        """Met {n} at the trade fair|Referral by {n}|Inbound through the web site
        |Cold call, {n} was open to it|{n} took part in our webinar|Partner lead from {n}
        |Existing customer, {n} called|Came in through support|{n} filled in the contact form""",
        """Budget approved|Decision by the end of the quarter|Competing with {c}
        |{n} decides, IT has a say|Contract with {c} ends soon|Needs references
        |Legal wants our terms changed|Discount expected|Wants delivery in two steps
        |Data must stay in the country|Go-live before the summer|Procurement is slow
        |Payment in 60 days asked for|Security questionnaire received""",
    ),
    "de": (
        """Benötigt {p} für {q} Nutzer|Sucht {p}, {q} Plätze|Will {c} durch {p} ablösen
        |Angebot für {p} angefragt|Interesse an {p} für das ganze Team|{q} Lizenzen {p} angefragt
        |Vorführung von {p} lief gut|Bisher {c}, unzufrieden, prüft {p}
        |Ausschreibung {p}, {q} Stück""",
        """{n} auf der Messe getroffen|Empfehlung von {n}|Anfrage über die Webseite
        |Kaltakquise, {n} war offen|Bestandskunde, {n} hat angerufen|Partner-Lead von {n}""",
        """Budget genehmigt|Entscheidung bis Quartalsende|Wettbewerber {c}|{n} entscheidet
        |Vertrag mit {c} läuft aus|Referenzen erbeten|Rabatt erwartet|Lieferung in zwei Schritten
        |Daten müssen im Land bleiben|Einkauf braucht Zeit""",
    ),
    "fr": (
        """Besoin de {p} pour {q} utilisateurs|Cherche {p}, {q} postes|Veut remplacer {c} par {p}
        |Devis demandé pour {p}|{q} licences {p} demandées|La démo de {p} s'est bien passée
        |Appel d'offres {p}, {q} unités""",
        """{n} rencontré au salon|Recommandé par {n}|Demande par le site web
        |Client existant, {n} a appelé|Contact partenaire par {n}""",
        """Budget validé|Décision en fin de trimestre|En concurrence avec {c}|{n} décide
        |Contrat {c} bientôt terminé|Remise attendue|Livraison en deux étapes
        |Références demandées""",
    ),
}  # fmt: skip
MUST = ("Must have: ", "Muss haben: ", "Exigences : ")
WISHES = """single_sign-on offline_mode SAP_interface audit_log API_access mobile_app data_export
two-factor_login barcode_reader role_model French_manual on-site_training 24/7_hotline
spare_parts five-year_warranty leasing ISO_27001 GDPR_contract sandbox Excel_import dark_mode
multi-currency e-invoicing fleet_discount old_data_migration night_delivery rack_mounting
Linux_client custom_reports approval_workflow touch_screens LDAP""".split()
RIVALS = """spreadsheets Altivo Bexware Corvid Delphon Ennova Fluxion Gridwell Hexalog Infratek
Jumpcore Kelvion Lattice Modulo Nexwave Optima Pinegrove Quorum Relay Stratus Tessel Uplink
Vertex Wavefront""".split()

FREE_MAIL = ("gmail.com", "outlook.com", "yahoo.com", "hotmail.com", "gmx.net", "icloud.com")
REVIEWERS = ("dana.ops", "marek.ops", "yuki.ops", "ines.ops")
