//! Resolves the fields of a view from the fields as sent: absent values, countries, devices.

use std::collections::BTreeSet;

/// ISO 3166-1: each entry is an alpha-3 code followed directly by its alpha-2 code.
const COUNTRIES: &str = "\
    ABWAW AFGAF AGOAO AIAAI ALAAX ALBAL ANDAD AREAE ARGAR ARMAM ASMAS ATAAQ ATFTF ATGAG AUSAU AUTAT AZEAZ BDIBI \
    BELBE BENBJ BESBQ BFABF BGDBD BGRBG BHRBH BHSBS BIHBA BLMBL BLRBY BLZBZ BMUBM BOLBO BRABR BRBBB BRNBN BTNBT \
    BVTBV BWABW CAFCF CANCA CCKCC CHECH CHLCL CHNCN CIVCI CMRCM CODCD COGCG COKCK COLCO COMKM CPVCV CRICR CUBCU \
    CUWCW CXRCX CYMKY CYPCY CZECZ DEUDE DJIDJ DMADM DNKDK DOMDO DZADZ ECUEC EGYEG ERIER ESHEH ESPES ESTEE ETHET \
    FINFI FJIFJ FLKFK FRAFR FROFO FSMFM GABGA GBRGB GEOGE GGYGG GHAGH GIBGI GINGN GLPGP GMBGM GNBGW GNQGQ GRCGR \
    GRDGD GRLGL GTMGT GUFGF GUMGU GUYGY HKGHK HMDHM HNDHN HRVHR HTIHT HUNHU IDNID IMNIM INDIN IOTIO IRLIE IRNIR \
    IRQIQ ISLIS ISRIL ITAIT JAMJM JEYJE JORJO JPNJP KAZKZ KENKE KGZKG KHMKH KIRKI KNAKN KORKR KWTKW LAOLA LBNLB \
    LBRLR LBYLY LCALC LIELI LKALK LSOLS LTULT LUXLU LVALV MACMO MAFMF MARMA MCOMC MDAMD MDGMG MDVMV MEXMX MHLMH \
    MKDMK MLIML MLTMT MMRMM MNEME MNGMN MNPMP MOZMZ MRTMR MSRMS MTQMQ MUSMU MWIMW MYSMY MYTYT NAMNA NCLNC NERNE \
    NFKNF NGANG NICNI NIUNU NLDNL NORNO NPLNP NRUNR NZLNZ OMNOM PAKPK PANPA PCNPN PERPE PHLPH PLWPW PNGPG POLPL \
    PRIPR PRKKP PRTPT PRYPY PSEPS PYFPF QATQA REURE ROURO RUSRU RWARW SAUSA SDNSD SENSN SGPSG SGSGS SHNSH SJMSJ \
    SLBSB SLESL SLVSV SMRSM SOMSO SPMPM SRBRS SSDSS STPST SURSR SVKSK SVNSI SWESE SWZSZ SXMSX SYCSC SYRSY TCATC \
    TCDTD TGOTG THATH TJKTJ TKLTK TKMTM TLSTL TONTO TTOTT TUNTN TURTR TUVTV TWNTW TZATZ UGAUG UKRUA UMIUM URYUY \
    USAUS UZBUZ VATVA VCTVC VENVE VGBVG VIRVI VNMVN VUTVU WLFWF WSMWS YEMYE ZAFZA ZMBZM ZWEZW";

/// The value, unless it is absent or in the null list.
pub(super) fn known<'a>(null_values: &BTreeSet<String>, value: &'a Option<String>) -> Option<&'a String> {
    value.as_ref().filter(|value| !null_values.contains(*value))
}

/// The sent value if it is known, else the enriched value if that is known.
pub(super) fn sent_or_enriched(
    null_values: &BTreeSet<String>,
    sent: &Option<String>,
    enriched: &Option<String>,
) -> Option<String> {
    known(null_values, sent).or(known(null_values, enriched)).cloned()
}

/// The ISO 3166 alpha-2 code for a code of two or three letters; NULL for anything else.
pub(super) fn country(value: Option<String>) -> Option<String> {
    let upper = value?.to_ascii_uppercase();
    if !upper.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    match upper.len() {
        2 => Some(upper),
        3 => COUNTRIES.split(' ').find(|pair| pair.starts_with(&upper)).map(|pair| pair[3..].to_string()),
        _ => None,
    }
}

/// OpenRTB's `devicetype` in words. Any other word is trimmed and lower-cased, and NULL if nothing
/// is left.
pub(super) fn device(value: Option<String>) -> Option<String> {
    let word = value?.trim().to_lowercase();
    Some(match word.as_str() {
        "" => return None,
        "1" | "4" => "mobile".to_string(),
        "2" => "desktop".to_string(),
        "3" | "7" => "ctv".to_string(),
        "5" => "tablet".to_string(),
        "6" => "connected".to_string(),
        _ => word,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries() {
        let check = |sent: &str, expected: Option<&str>| {
            assert_eq!(country(Some(sent.to_string())).as_deref(), expected, "{sent}");
        };
        check("us", Some("US"));
        check("USA", Some("US"));
        check("deu", Some("DE"));
        check("ZZZ", None);
        check("Germany", None);
        check("1a", None);
        assert_eq!(COUNTRIES.split(' ').count(), 249);
    }

    #[test]
    fn devices() {
        assert_eq!(device(Some(" Mobile ".into())).as_deref(), Some("mobile"));
        assert_eq!(device(Some("7".into())).as_deref(), Some("ctv"));
    }
}
